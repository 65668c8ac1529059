"""Writes the farm file's JSON schema, and its reference page: `python -m corral.farm.write_schema SCHEMA [PAGE]`.

    python -m corral.farm.write_schema farms/corral.schema.json docs/farm-file-reference.md

A test fails when the committed files differ from what this gives.
"""

import argparse
import json
from pathlib import Path

from corral.farm import schema
from corral.farm.reference import page


def schema_text() -> str:
    """Return the schema as it is committed."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Write the files that are named."""
    parser = argparse.ArgumentParser(prog="python -m corral.farm.write_schema", description="Write the schema.")
    parser.add_argument("schema", type=Path, help="where the JSON schema goes")
    parser.add_argument("page", type=Path, nargs="?", help="where the reference page goes")
    arguments = parser.parse_args(argv)
    arguments.schema.write_text(schema_text(), encoding="utf-8")
    if arguments.page is not None:
        arguments.page.write_text(page(schema()), encoding="utf-8")


if __name__ == "__main__":
    main()
