"""The farm file's reference page, from its JSON schema: a table for each part, so that no page can fall behind."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

HEAD = (
    "<!-- Written by `python -m corral.farm.write_schema` from the code (corral/farm); change it there. -->\n\n"
    "# The farm file\n\n"
    "`corral.yaml` says which machines there are, what runs where, and what stands before it. Examples are in\n"
    "[farms/](../farms/). An editor with a YAML language server completes and checks it where the first line is\n"
    "`# yaml-language-server: $schema=farms/corral.schema.json`; `corral validate` checks all that the schema cannot.\n"
)
_SCALARS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
Schema = Mapping[str, Any]


def page(schema: Schema) -> str:
    """Return the page, in Markdown: the file's own keys first, then each part as it is first named."""
    parts = {name: schema["$defs"][name] for name in _order(schema)}
    sections = [_section("The file", schema), *(_section(name, part) for name, part in parts.items())]
    return "\n".join([HEAD, *sections])


def _order(schema: Schema) -> list[str]:
    """Return the names of all parts, each before those that only it leads to."""
    found: dict[str, None] = {}

    def visit(part: Schema) -> None:
        named = dict.fromkeys(name for value in part["properties"].values() for name in _references(value))
        for name in named:
            if name not in found:
                found[name] = None
                visit(schema["$defs"][name])

    visit(schema)
    return list(found)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _section(title: str, part: Schema) -> str:
    required = part.get("required", ())
    lines = [
        f"## {title}\n",
        part.get("description", "") + "\n",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for key, value in part["properties"].items():
        cells = (f"`{key}`", _type(value), _default(value, required=key in required), _meaning(value))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _meaning(value: Schema) -> str:
    examples = ", ".join(f"`{example}`" for example in value.get("examples", ()))
    text: str = value.get("description", "")
    return f"{text} For example {examples}." if examples else text


def _default(value: Schema, *, required: bool) -> str:
    if required:
        return "**required**"
    default = value.get("default")
    if default is None:
        return "unset"
    if isinstance(default, dict) and default:
        return "its own defaults"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`" if default != "" else "empty"


def _type(value: Schema) -> str:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(_type(choice) for choice in choices if choice.get("type") != "null")
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if value["type"] == "array":
        return f"list of {_type(value['items'])}"
    if value["type"] == "object":
        return f"name: {_type(value['additionalProperties'])}"
    return _SCALARS[value["type"]] + _limits(value)


def _limits(value: Schema) -> str:
    least, over, most = value.get("minimum"), value.get("exclusiveMinimum"), value.get("maximum")
    if least is not None and most is not None:
        return f", {least} to {most}"
    if least is not None:
        return f", {least} or more"
    return f", over {over}" if over is not None else ""
