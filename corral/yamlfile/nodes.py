"""The tree that a YAML file is read into: plain values, each with its place."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from corral.yamlfile.problems import KeyPath


@dataclass(slots=True, eq=False)
class Node:
    """A value of the file.

    Attributes:
        line: where it begins, from 1.
        column: where it begins, from 1.
        data: the value as Python has it; aliases of one anchor share it.
        size: how many nodes it has with all aliases written out, itself included.
        depth: how many collections lie one in another in it, with all aliases written out.
    """

    line: int
    column: int
    data: Any = None
    size: int = 1
    depth: int = 0


@dataclass(slots=True, eq=False)
class Scalar(Node):
    """A text, number, boolean or null; `text` is as written, `plain` says that it stands without quotes or tag."""

    text: str = ""
    plain: bool = False


@dataclass(slots=True, eq=False)
class Sequence(Node):
    """A list."""

    items: list[Node] = field(default_factory=list)


class Entry(NamedTuple):
    """A key of a mapping with its value; `merged_by` is the `<<` value through which it came from another mapping."""

    key: Node
    value: Node
    merged_by: Node | None


@dataclass(slots=True, eq=False)
class Mapping(Node):
    """A mapping; keys brought in by `<<` are among its entries."""

    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Alias(Node):
    """A `*name`; its place is that of the alias, its target that of the anchor."""

    target: Node = field(default_factory=lambda: Node(0, 0))


class Place(NamedTuple):
    """Where a value stands.

    `line` and `column` are where it is used; `defined` is where it is written, when an alias or a merge lies between.
    """

    line: int
    column: int
    defined: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Positions:
    """Where each value of a file stands, asked by key path: `positions.of(("servers", 3, "port")).line`."""

    root: Node

    def of(self, path: KeyPath) -> Place:
        """Return the place of a value, or of the nearest parent that the file has."""
        return self._walk(path)[2]

    def of_key(self, path: KeyPath) -> Place:
        """Return the place of a value's key, or what `of` returns if it has none (a list item, a missing value)."""
        if not path:
            return self.of(path)
        parent, found, place = self._walk(path[:-1])
        entry = parent.entries.get(str(path[-1])) if found and isinstance(parent, Mapping) else None
        if entry is None or not isinstance(path[-1], str):
            return self.of(path)
        used = (place.line, place.column) if place.defined else _merged_at(entry)
        return _place(used, entry.key)

    def node(self, path: KeyPath) -> Node | None:
        """Return the node of a value, behind aliases; None if the file has none at that path."""
        node, found, _ = self._walk(path)
        return node if found else None

    def _walk(self, path: KeyPath) -> tuple[Node, bool, Place]:
        """Follow a path as far as the file goes: the node there, whether it is the one asked for, its place."""
        node, used = _resolved(self.root, None)
        for step in path:
            if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
                value = node.entries[step].value
                used = used or _merged_at(node.entries[step])
            elif isinstance(node, Sequence) and isinstance(step, int) and 0 <= step < len(node.items):
                value = node.items[step]
            else:
                return node, False, _place(used, node)
            node, used = _resolved(value, used)
        return node, True, _place(used, node)


def _resolved(node: Node, used: tuple[int, int] | None) -> tuple[Node, tuple[int, int] | None]:
    """Return what stands behind an alias, and where the outermost alias or merge on the way is."""
    if isinstance(node, Alias):
        return node.target, used or _position(node)
    return node, used


def _merged_at(entry: Entry) -> tuple[int, int] | None:
    return _position(entry.merged_by) if entry.merged_by else None


def _position(node: Node) -> tuple[int, int]:
    return node.line, node.column


def _place(used: tuple[int, int] | None, node: Node) -> Place:
    return Place(*used, defined=_position(node)) if used else Place(*_position(node))
