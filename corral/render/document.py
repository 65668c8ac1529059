"""Rendered files: plain data in, text out, the same text for the same data."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

NOTICE = "Rendered by corral render from corral.yaml; edit that, not this."
HEADER = f"# {NOTICE}\n"
WIDTH = 120

# What PyYAML (YAML 1.1) writes plain, and a reader of another version takes for a number or a boolean: 1e3, 0o17, y.
_AMBIGUOUS = re.compile(r"[-+.\d]|[yYnN]$")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One file. `path` is relative to the folder that is rendered into."""

    path: PurePosixPath
    text: str


class _Dumper(yaml.CSafeDumper):
    """Writes each value out: an anchor in a rendered file would make a person look for where it is defined."""

    def ignore_aliases(self, _data: Any) -> bool:
        """See PyYAML."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "'" if _AMBIGUOUS.match(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def yaml_file(path: str, *documents: Mapping[str, Any] | list[Any]) -> Rendered:
    """Return a YAML file of plain data: mappings keep their order."""
    text = yaml.dump_all(
        documents,
        Dumper=_Dumper,
        sort_keys=False,
        width=WIDTH,
        allow_unicode=True,
        default_flow_style=False,
        explicit_start=len(documents) > 1,
    )
    return Rendered(PurePosixPath(path), HEADER + text)


def json_file(path: str, document: Mapping[str, Any]) -> Rendered:
    """Return a JSON file; what the header says in others, its `_comment` says."""
    text = json.dumps({"_comment": NOTICE, **document}, indent=2, ensure_ascii=False)
    return Rendered(PurePosixPath(path), text + "\n")


def is_ours(text: str) -> bool:
    """Return whether a file's text begins as what `corral render` writes does."""
    return text.startswith((HEADER, '{\n  "_comment": ' + json.dumps(NOTICE)))


def number(value: float) -> float:
    """Return a number as a person writes it: 5, not 5.0."""
    return int(value) if value == int(value) else value
