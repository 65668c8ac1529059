"""The published schema and reference page are what the code says, and editors are told what the loader says."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from corral.farm import FarmFile, schema, write_schema
from corral.farm.reference import page

ROOT = Path(__file__).parents[3]
FARMS = sorted((ROOT / "farms").glob("*.yaml"))
MEND = "run: python -m corral.farm.write_schema farms/corral.schema.json docs/farm-file-reference.md"
VALIDATOR = jsonschema.Draft202012Validator(json.loads((ROOT / "farms" / "corral.schema.json").read_text()))


def test_the_committed_files_are_the_codes(tmp_path: Path) -> None:
    written, reference = tmp_path / "schema.json", tmp_path / "page.md"
    write_schema.main([str(written), str(reference)])
    assert written.read_text() == (ROOT / "farms" / "corral.schema.json").read_text(), MEND
    assert reference.read_text() == (ROOT / "docs" / "farm-file-reference.md").read_text(), MEND


@pytest.mark.parametrize("file", FARMS, ids=lambda file: file.stem)
def test_the_schema_takes_the_examples_which_name_it(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("# yaml-language-server: $schema=corral.schema.json\n")
    VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ((), "modles", {}),
        (("hosts", "here"), "gpu", []),
        (("models", "chat"), "contxt", 4096),
        (("models", "chat", "source"), "pakage", "x"),
        (("servers", 0), "port", 8080),
        (("models", "chat"), "mode", "chta"),
        (("models", "chat"), "slots", 0),
    ],
)
def test_the_schema_refuses_a_misspelt_key_and_a_wrong_value(path: tuple[str | int, ...], key: str, value: Any) -> None:
    farm = yaml.safe_load((ROOT / "farms" / "laptop.yaml").read_text())
    at = farm
    for step in path:
        at = at[step]
    at[key] = value
    assert not VALIDATOR.is_valid(farm)


def test_the_page_has_each_key_of_each_part_with_a_meaning() -> None:
    text = page(schema())
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    parts: list[dict[str, Any]] = [schema(), *schema()["$defs"].values()]  # type: ignore[attr-defined]  # plain JSON
    assert len(rows) == sum(len(part["properties"]) for part in parts)
    assert all(len(row) == 4 and row[3].removesuffix("|").strip() for row in rows)
    assert all(f"`{key}`" in text for key in FarmFile.model_fields)
    assert "| `context` | whole number, 32 or more | `4096` | Tokens of one slot, prompt and answer together. |" in text
