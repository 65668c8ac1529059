"""Writes values into a farm file's text: what stands there otherwise, comments too, stays as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from corral.errors import CorralError
from corral.farm import FarmFile, load_farm
from corral.farm.model import Limits
from corral.yamlfile import YamlFileErrors, loads


@dataclass(frozen=True, slots=True)
class Change:
    """A number to be written, and the keys that lead to it."""

    path: tuple[str, ...]
    value: int


def with_changes(path: Path, changes: Sequence[Change]) -> tuple[str, str]:
    """Return a farm file's text, and the same with these values.

    Raises:
        YamlFileErrors: the file is wrong as it is.
        CorralError: a value stands where it cannot be changed without changing others (behind an anchor, say).
    """
    loaded = load_farm(path)
    before = text = loaded.source_text
    wanted = loaded.value.model_dump()
    try:
        for change in changes:
            text = _with(text, change)
            _set(wanted, change)
        right = loads(text, str(path), FarmFile).model_dump() == wanted
    except (LookupError, YamlFileErrors):
        right = False
    if not right:
        lines = ", ".join(f"{'.'.join(change.path)}: {change.value}" for change in changes)
        raise CorralError(f"{path} is written in a way that cannot be changed safely", f"write by hand: {lines}")
    return before, text


def _set(wanted: dict[str, Any], change: Change) -> None:
    *steps, last = change.path
    for step in steps:
        if wanted[step] is None and step == "limits":
            wanted[step] = Limits().model_dump()
        wanted = wanted[step]
    wanted[last] = change.value


def _with(text: str, change: Change) -> str:
    """Return the text with one value; LookupError where the way to it leads through something else than mappings."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for depth, step in enumerate(change.path):
        if not isinstance(node, yaml.MappingNode):
            raise LookupError(step)  # noqa: TRY004  # of the file, not of a caller
        found = next((value for key, value in node.value if key.value == step), None)
        if found is None:
            return _inserted(text, node, _entry(change.path[depth:], change.value))
        node = found
    if not isinstance(node, yaml.ScalarNode):
        raise LookupError(change.path[-1])  # noqa: TRY004
    return text[: node.start_mark.index] + str(change.value) + text[node.end_mark.index :]


def _entry(keys: Sequence[str], value: int) -> str:
    """Return an entry of these keys, one in another: `limits: {rpm: 60}`."""
    first, *rest = keys
    return f"{first}: {{{_entry(rest, value)}}}" if rest else f"{first}: {value}"


def _inserted(text: str, mapping: yaml.MappingNode, entry: str) -> str:
    """Return the text with one more entry at a mapping's end."""
    if mapping.flow_style:
        if not mapping.value:
            at = mapping.start_mark.index + 1
            return text[:at] + entry + text[at:]
        at = mapping.value[-1][1].end_mark.index
        return f"{text[:at]}, {entry}{text[at:]}"
    indent = " " * mapping.value[0][0].start_mark.column
    line_end = text.find("\n", _end(mapping))
    at = len(text) if line_end < 0 else line_end
    return f"{text[:at]}\n{indent}{entry}{text[at:]}"


def _end(node: yaml.Node) -> int:
    """Return where a value's own text ends; a block's end mark lies behind the comments that follow it."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    return int(node.end_mark.index)


def changes_of(suggested: Mapping[str, Mapping[str, int]]) -> list[Change]:
    """Return the changes that set `rpm`, `parallel` and `max_queue` of models, by the models' names."""
    where = {"rpm": "limits", "parallel": "limits", "max_queue": "serving"}
    return [
        Change(("models", model, where[name], name), value)
        for model, values in suggested.items()
        for name, value in values.items()
    ]
