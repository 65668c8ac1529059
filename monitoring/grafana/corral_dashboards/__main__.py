"""`python -m corral_dashboards FOLDER`: write every dashboard's JSON into a folder."""

import sys
from pathlib import Path

from corral_dashboards.all import DASHBOARDS
from corral_dashboards.build import as_json


def main(arguments: list[str]) -> None:
    """Write them; SystemExit with what is wrong if the folder is not there."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.exit("give the folder to write into: python -m corral_dashboards monitoring/grafana/dashboards")
    for view in DASHBOARDS:
        (Path(arguments[0]) / f"{view.uid.removeprefix('corral-')}.json").write_text(as_json(view), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
