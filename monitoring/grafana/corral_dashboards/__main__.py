"""`python -m corral_dashboards FOLDER`: write every dashboard's JSON into a folder."""

import sys
from pathlib import Path

from corral_dashboards.all import DASHBOARDS
from corral_dashboards.build import as_json

if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("give the folder to write into: python -m corral_dashboards monitoring/grafana/dashboards")
    for view in DASHBOARDS:
        (Path(sys.argv[1]) / f"{view.uid.removeprefix('corral-')}.json").write_text(as_json(view), encoding="utf-8")
