"""From YAML text to a tree of nodes, with everything refused that a farm file has no use for.

It is built on the parser's events rather than on `yaml.compose`: that one calls itself for every level, so a deep
file ends in a RecursionError, and takes four times as long, most of it for tags that a farm file may not have. Here a
loop with a stack does it, which also knows where an alias is used and not only where its anchor is.

Refused, each with its place: duplicate keys, keys that are not text, unknown and recursive aliases, anchors given
twice, tags other than YAML's own plain ones, several documents, and more than `MAX_NODES` nodes or `MAX_DEPTH` levels
once all aliases are written out ("a billion laughs").
"""

import difflib
from collections.abc import Iterator
from typing import Any

import yaml

from corral.yamlfile import syntax
from corral.yamlfile.nodes import Alias, Entry, Mapping, Node, Scalar, Sequence
from corral.yamlfile.problems import Problem, ticked
from corral.yamlfile.scalars import kind_of, meaning, read_plain

MAX_NODES = 200_000
MAX_DEPTH = 64

# libyaml's parser where PyYAML was built with it (all its wheels are): ten times as fast.
PARSER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = {"str", "int", "float", "bool", "null"}
_TEXT_MEND = "quote it"


class UnreadableError(Exception):
    """The file cannot be read further than this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


def compose(text: str) -> tuple[Node | None, list[Problem]]:
    """Return the tree of a YAML text, and what is wrong with it; the tree is None if it cannot be used at all.

    Args:
        text: what `corral.yamlfile.source.check` has found nothing wrong with.
    """
    composer = _Composer()
    try:
        for event in _events(text, composer):
            composer.take(event)
    except UnreadableError as unreadable:
        return None, [*composer.problems, unreadable.problem]
    if composer.root is None:
        composer.complain(1, 1, "the file is empty", "write at least one key")
    elif not isinstance(composer.root, Mapping):
        shown = "a list" if isinstance(composer.root, Sequence) else "a single value"
        mend = "begin with `key: value` lines"
        composer.complain(composer.root.line, composer.root.column, f"the file is {shown}, not a mapping", mend)
        return None, composer.problems
    return composer.root, composer.problems


def _events(text: str, composer: "_Composer") -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=PARSER)
    except yaml.YAMLError as error:
        raise UnreadableError(syntax.explain(error, text, composer.open_bracket())) from None


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("anchor", "flow", "key", "merges", "node")

    def __init__(self, node: Mapping | Sequence, *, anchor: str | None, flow: bool) -> None:
        self.node = node
        self.anchor = anchor
        self.flow = flow
        self.key: Node | None = None  # of a mapping: the key whose value comes next
        self.merges: list[Node] = []  # of a mapping: the values of its `<<`


class _Composer:
    """Takes the parser's events one by one and puts the tree together."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0

    def complain(self, line: int, column: int, what: str, mend: str, *, on_key: bool = False) -> None:
        self.problems.append(Problem(line, column, (), what, mend, on_key=on_key))

    def open_bracket(self) -> tuple[int, int] | None:
        """Return the place of the innermost `[` or `{` that is open."""
        if self._open and self._open[-1].flow:
            return self._open[-1].node.line, self._open[-1].node.column
        return None

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._add(self._anchored(self._scalar(event), event))
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._begin(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._alias(event))
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                line, column = _place(event)
                what = "a second document begins here (`---`)"
                raise UnreadableError(
                    Problem(line, column, (), what, "keep one document in a file; take the `---` out")
                )

    # Nodes

    def _scalar(self, event: Any) -> Scalar:
        line, column = _place(event)
        plain = event.implicit[0] and event.tag is None
        node = Scalar(line, column, data=event.value, text=event.value, plain=plain)
        if plain:
            node.data, complaint = read_plain(event.value)
            if complaint:
                mend = f'quote it if text is meant ("{event.value}"), else write the plain number'
                self.complain(line, column, f"{ticked(event.value)} {complaint}", mend)
        elif event.tag not in {None, "!"}:
            self._read_tagged(node, event.tag)
        return node

    def _read_tagged(self, node: Scalar, tag: str) -> None:
        kind = tag.removeprefix(_TAG)
        if not tag.startswith(_TAG) or kind not in _SCALAR_TAGS:
            self._refuse_tag(node, tag)
        elif kind == "float" and kind_of(node.text) == "int":
            node.data = float(read_plain(node.text)[0])
        elif kind != "str":
            node.data, complaint = read_plain(node.text)
            if kind_of(node.text) != kind or complaint:
                self.complain(node.line, node.column, f"{ticked(node.text)} is no `!!{kind}`", "take the tag out")

    def _refuse_tag(self, node: Node, tag: str) -> None:
        shown = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
        self.complain(node.line, node.column, f"the tag {ticked(shown)} is not known here", "take the tag out")

    def _alias(self, event: Any) -> Alias:
        line, column = _place(event)
        name = event.anchor
        target = self._anchors.get(name)
        if target is not None:
            return Alias(line, column, data=target.data, size=target.size, depth=target.depth, target=target)
        if any(collection.anchor == name for collection in self._open):
            what, mend = f"the alias `*{name}` stands inside its own anchor `&{name}`", "write the value out"
        else:
            near = difflib.get_close_matches(name, self._anchors, n=1)
            what = f"the alias `*{name}` has no anchor `&{name}` before it"
            mend = f"did you mean `*{near[0]}`?" if near else f"write `&{name}` at the value that is meant, further up"
        self.complain(line, column, what, mend)
        return Alias(line, column, target=Scalar(line, column))

    def _anchored(self, node: Node, event: Any) -> Node:
        if event.anchor is not None:
            self._register(event.anchor, node)
        return node

    def _register(self, name: str, node: Node) -> None:
        if first := self._anchors.get(name):
            what = f"the anchor `&{name}` is given twice, first in line {first.line}"
            self.complain(node.line, node.column, what, "rename one of them")
        else:
            self._anchors[name] = node

    # Collections

    def _begin(self, event: Any) -> None:
        line, column = _place(event)
        if len(self._open) >= MAX_DEPTH:
            raise _too_deep(line, column)
        node = Mapping(line, column) if isinstance(event, yaml.MappingStartEvent) else Sequence(line, column)
        kind = "map" if isinstance(node, Mapping) else "seq"
        if event.tag not in {None, "!", _TAG + kind}:
            self._refuse_tag(node, event.tag)
        node.data = {} if isinstance(node, Mapping) else []
        self._open.append(_Open(node, anchor=event.anchor, flow=bool(event.flow_style)))

    def _end(self) -> None:
        collection = self._open.pop()
        node = collection.node
        if isinstance(node, Mapping):
            self._merge(node, collection.merges)
            node.data = {key: entry.value.data for key, entry in node.entries.items()}
        if collection.anchor is not None:
            self._register(collection.anchor, node)
        self._add(node)

    def _add(self, node: Node) -> None:
        """Put a whole node where it belongs: into the innermost open collection, or at the root."""
        if not self._open:
            self.root = node
            return
        collection = self._open[-1]
        if isinstance(collection.node, Sequence):
            collection.node.items.append(node)
            collection.node.data.append(node.data)
            _grow(collection.node, node, node)
        elif collection.key is None:
            collection.key = node
        else:
            self._add_pair(collection, collection.key, node)
            collection.key = None

    def _add_pair(self, collection: _Open, key: Node, value: Node) -> None:
        written = key.target if isinstance(key, Alias) else key
        if not isinstance(written, Scalar):
            self.complain(
                key.line, key.column, "a list or mapping cannot be a key", "write the key as text", on_key=True
            )
            return
        if written.plain and kind_of(written.text) == "merge":
            collection.merges.append(value)
            return
        name = written.text
        if written.plain and not isinstance(written.data, str):
            what = f"the key {ticked(name)} is read as {meaning(written.data)}, not as text"
            self.complain(key.line, key.column, what, f'quote it: "{name}":', on_key=True)
        mapping = collection.node
        assert isinstance(mapping, Mapping)  # noqa: S101  # `_add` calls this for mappings only
        if first := mapping.entries.get(name):
            what = f"the key {ticked(name)} is given twice, first in line {first.key.line}"
            self.complain(key.line, key.column, what, "keep one of them", on_key=True)
            return
        mapping.entries[name] = Entry(key, value, None)
        _grow(mapping, value, key)

    def _merge(self, mapping: Mapping, merges: list[Node]) -> None:
        """Bring in what `<<` names: keys of the mapping itself come first, then those of earlier mappings."""
        for value in merges:
            target = value.target if isinstance(value, Alias) else value
            sources = target.items if isinstance(target, Sequence) else [value]
            for source in sources:
                merged = source.target if isinstance(source, Alias) else source
                if not isinstance(merged, Mapping):
                    what = "`<<` takes a mapping, or a list of mappings"
                    self.complain(source.line, source.column, what, "give it the alias of one, such as `<<: *defaults`")
                    continue
                for name, entry in merged.entries.items():
                    if name not in mapping.entries:
                        mapping.entries[name] = Entry(entry.key, entry.value, source)
                        _grow(mapping, entry.value, source)


def _grow(collection: Node, item: Node, place: Node) -> None:
    """Count an item in, and stop before anything is made of more nodes or levels than a file may have."""
    collection.size += item.size
    collection.depth = max(collection.depth, item.depth + 1)
    if collection.size > MAX_NODES:
        what = f"the file has more than {MAX_NODES:,} values once its aliases are written out"
        raise UnreadableError(
            Problem(place.line, place.column, (), what, "use fewer aliases of aliases, or split the file")
        )
    if collection.depth > MAX_DEPTH:
        raise _too_deep(place.line, place.column)


def _too_deep(line: int, column: int) -> UnreadableError:
    what = f"lists and mappings lie more than {MAX_DEPTH} deep in one another"
    return UnreadableError(Problem(line, column, (), what, "check the indentation and brackets"))


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
