"""From Pydantic's ValidationError to problems in a person's words, with what was given, what is wanted and the mend."""

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import core_schema

from corral.yamlfile.nodes import Mapping, Node, Positions, Scalar, Sequence
from corral.yamlfile.problems import KeyPath, Problem, listed, one_line, printable, ticked
from corral.yamlfile.scalars import meaning
from corral.yamlfile.secrets import HIDDEN, looks_secret
from corral.yamlfile.shapes import Shapes, Spot
from corral.yamlfile.wanted import MAPPINGS, example, names, wanted

_PREFIX = 3  # letters of a key from which it is taken for the beginning of a longer one
_PYDANTICS_OWN = frozenset(get_args(core_schema.ErrorType))
# Errors that say: this member of the union is not even meant. The others speak of a value of the right kind.
_ANOTHER_KIND = ("_type", "_parsing", "literal_error", "enum", "none_required", "int_from_float", "is_instance_of")


@dataclass(frozen=True, slots=True)
class _Fault:
    """One of a ValidationError's errors, with the place it means."""

    kind: str
    loc: tuple[int | str, ...]
    context: dict[str, Any]
    message: str
    spot: Spot

    def member(self, before: int) -> str:
        """Return the name of the union member in which it was found, of the union that lies `before` steps deep."""
        return next(name for index, name in self.spot.members if index == before)


def problems(error: ValidationError, shapes: Shapes, data: Any, positions: Positions) -> list[Problem]:
    """Return what is wrong, one problem for each mistake (Pydantic tells one for each member of a union).

    Args:
        error: what the model raised; its texts are not used, except those of the model's own validators.
        shapes: the model's.
        data: what was validated.
        positions: of the file that `data` was read from.
    """
    faults = [
        _Fault(fault["type"], fault["loc"], fault.get("ctx", {}), fault["msg"], shapes.spot(fault["loc"], data))
        for fault in error.errors(include_url=False, include_input=False)
    ]
    wording = _Wording(shapes, positions)
    return [wording.problem(fault) for fault in _folded(faults, 0)]


def _folded(faults: list[_Fault], union: int) -> list[_Fault]:
    """Return the faults of the one member that is meant of each union, or one fault that stands for all its members."""
    groups: dict[object, list[_Fault]] = defaultdict(list)
    for fault in faults:
        crossed = fault.spot.members[union:]
        groups[fault.loc[: crossed[0][0]] if crossed else id(fault)].append(fault)
    folded = []
    for group in groups.values():
        crossed = group[0].spot.members[union:]
        folded += _folded(_meant(group, crossed[0][0]), union + 1) if crossed else group
    return folded


def _meant(faults: list[_Fault], before: int) -> list[_Fault]:
    members: dict[str, list[_Fault]] = defaultdict(list)
    for fault in faults:
        members[fault.member(before)].append(fault)
    if len(members) == 1:
        return faults

    def another_kind(of_member: list[_Fault]) -> bool:
        return any(len(fault.loc) == before + 1 and fault.kind.endswith(_ANOTHER_KIND) for fault in of_member)

    def distance(of_member: list[_Fault]) -> tuple[int, int]:
        return sum(fault.kind in {"literal_error", "enum"} for fault in of_member), len(of_member)

    near = [of_member for of_member in members.values() if not another_kind(of_member)]
    if near:
        return _wrong_in_all(near) or min(near, key=distance)
    # None is meant: one fault at the union itself, for which all its members are wanted.
    first = faults[0]
    schemas = tuple(schema for of_member in members.values() for schema in of_member[0].spot.schemas)
    spot = Spot(first.spot.path, schemas, first.spot.parents, first.spot.on_key, first.spot.members[:1])
    return [_Fault("union_type", first.loc, {}, "", spot)]


def _wrong_in_all(members: list[list[_Fault]]) -> list[_Fault]:
    """Return one fault for a name (such as `kind: bird`) that no member of a union allows; nothing if one does."""
    wrong = [
        next((fault for fault in of_member if fault.kind in {"literal_error", "enum"}), None) for of_member in members
    ]
    first = wrong[0]
    if first is None or any(fault is None or fault.spot.path != first.spot.path for fault in wrong):
        return []
    schemas = tuple(schema for fault in wrong if fault for schema in fault.spot.schemas)
    return [replace(first, spot=replace(first.spot, schemas=schemas))]


class _Wording:
    """Puts faults into words."""

    def __init__(self, shapes: Shapes, positions: Positions) -> None:
        self._shapes = shapes
        self._positions = positions

    def problem(self, fault: _Fault) -> Problem:
        spot = fault.spot
        on_key = spot.on_key or fault.kind == "extra_forbidden"
        tell = _TELLERS.get(fault.kind, _Wording._wrong_kind)
        if fault.kind not in _PYDANTICS_OWN and fault.kind != "union_type":
            tell = _Wording._own_words
        what, mend = tell(self, fault)
        return placed(self._positions, Problem.at(spot.path, what, mend, on_key=on_key))

    # One method for each family of errors; each returns what is wrong and its mend.

    def _unknown_key(self, fault: _Fault) -> tuple[str, str]:
        members = [member for schema in fault.spot.parents for member in self._shapes.members(schema)]
        fields = [list(self._shapes.fields(member) or ()) for member in members]
        known = list(dict.fromkeys(key for keys in fields for key in keys))
        return "unknown key", _did_you_mean(str(fault.spot.path[-1]), known)

    def _missing(self, fault: _Fault) -> tuple[str, str]:
        key = str(fault.spot.path[-1])
        value = example(self._shapes, fault.spot.schemas)
        such = f", such as {ticked(f'{key}: {value}')}" if value else ""
        return "missing", f"add {ticked(key)}: {wanted(self._shapes, fault.spot.schemas)}{such}"

    def _wrong_kind(self, fault: _Fault) -> tuple[str, str]:
        spot = fault.spot
        if spot.on_key:
            return f"the key is not {wanted(self._shapes, spot.schemas)}", "write another key"
        members = [member for schema in spot.schemas for member in self._shapes.members(schema)]
        if quoting := self._quoting(spot, takes_text=any(member["type"] == "str" for member in members)):
            return quoting
        given = self._given(spot.path)
        what = f"{wanted(self._shapes, spot.schemas)} is wanted, not {given}"
        mappings = [member for member in members if member["type"] in MAPPINGS]
        if members and len(mappings) == len(members):
            known = list(dict.fromkeys(key for member in mappings for key in self._shapes.fields(member) or ()))
            return what, f"write keys with their values, one a line (known: {_all(known)})" if known else "write keys"
        value = example(self._shapes, spot.schemas)
        return what, f"write for example {ticked(_keyed(spot.path, value))}" if value else "write such a value"

    def _wrong_name(self, fault: _Fault) -> tuple[str, str]:
        if quoting := self._quoting(fault.spot, takes_text=False):
            return quoting
        known = names(self._shapes, fault.spot.schemas)
        node = self._positions.node(fault.spot.path)
        if fault.spot.on_key:
            return "unknown key", _did_you_mean(str(fault.spot.path[-1]), known)
        if not isinstance(node, Scalar):
            return self._wrong_kind(fault)
        return f"{self._given(fault.spot.path)} is not known", _did_you_mean(node.text, known)

    def _unknown_tag(self, fault: _Fault) -> tuple[str, str]:
        return f"{ticked(str(fault.context['tag']))} is not known", _did_you_mean(
            str(fault.context["tag"]), self._tags(fault)
        )

    def _missing_tag(self, fault: _Fault) -> tuple[str, str]:
        key = str(fault.context["discriminator"]).strip("'")
        return f"the key {ticked(key)} is missing, which says what kind this is", f"add it: {listed(self._tags(fault))}"

    def _tags(self, fault: _Fault) -> list[str]:
        bare = [self._shapes.bare(schema) for schema in fault.spot.schemas]
        return [str(getattr(tag, "value", tag)) for schema in bare for tag in schema.get("choices", ())]

    def _out_of_range(self, fault: _Fault) -> tuple[str, str]:
        relation, bound = next((words, fault.context[key]) for key, words in _BOUNDS.items() if key in fault.context)
        what = f"{self._given(fault.spot.path)} is {relation} {bound}"
        return what, f"write {wanted(self._shapes, fault.spot.schemas)}"

    def _length(self, fault: _Fault) -> tuple[str, str]:
        low, high = fault.context.get("min_length"), fault.context.get("max_length")
        bound = f"at least {low}" if low is not None else f"at most {high}"
        unit = "character" if fault.kind.startswith("string") else "item"
        subject = "the key" if fault.spot.on_key else "the value"
        count = low if low is not None else high
        return f"{subject} has too {'few' if low is not None else 'many'} {unit}s", (
            f"give it {bound} {unit}{'' if count == 1 else 's'}"
        )

    def _pattern(self, fault: _Fault) -> tuple[str, str]:
        subject = "the key" if fault.spot.on_key else self._given(fault.spot.path)
        value = None if fault.spot.on_key else example(self._shapes, fault.spot.schemas)
        such = f", such as {ticked(value)}" if value else ""
        what = f"{subject} does not have the form {printable(str(fault.context['pattern']))}"
        return what, f"write it in that form{such}"

    def _not_finite(self, fault: _Fault) -> tuple[str, str]:
        return f"{self._given(fault.spot.path)} is not a finite number", "write a number"

    def _own_words(self, fault: _Fault) -> tuple[str, str]:
        """Return what a validator of the model says, which is written as `what; mend`."""
        message = str(fault.context["error"]) if "error" in fault.context else fault.message
        what, _, mend = printable(message).partition("; ")
        return what or "is refused", mend

    # Words about values

    def _given(self, path: KeyPath) -> str:
        node = self._positions.node(path)
        if node is not None and looks_secret(path, node.data):
            return HIDDEN
        return _shown(node)

    def _quoting(self, spot: Spot, *, takes_text: bool) -> tuple[str, str] | None:
        """Return the mend of a text that YAML has read as something else (`no`, `6.10`), where text is wanted."""
        node = self._positions.node(spot.path)
        if not isinstance(node, Scalar) or not node.plain or isinstance(node.data, str) or node.text == "":
            return None
        if not takes_text and f'"{node.text}"' not in names(self._shapes, spot.schemas):
            return None
        if looks_secret(spot.path, node.text):
            return "is not read as text", "quote it"
        return f"{ticked(node.text)} is read as {meaning(node.data)}, not as text", f'quote it: "{one_line(node.text)}"'


def placed(positions: Positions, problem: Problem) -> Problem:
    """Return a problem with the line and column of its path, or of the nearest parent that the file has."""
    place = positions.of_key(problem.path) if problem.on_key else positions.of(problem.path)
    return Problem(
        place.line, place.column, problem.path, problem.what, problem.mend, on_key=problem.on_key, defined=place.defined
    )  # fmt: skip


_BOUNDS = {
    "le": "more than",
    "ge": "less than",
    "gt": "not more than",
    "lt": "not less than",
    "multiple_of": "not divisible by",
}
_TELLERS: dict[str, Callable[[_Wording, _Fault], tuple[str, str]]] = {
    "extra_forbidden": _Wording._unknown_key,
    "missing": _Wording._missing,
    "literal_error": _Wording._wrong_name,
    "enum": _Wording._wrong_name,
    "union_tag_invalid": _Wording._unknown_tag,
    "union_tag_not_found": _Wording._missing_tag,
    "string_pattern_mismatch": _Wording._pattern,
    "finite_number": _Wording._not_finite,
    **dict.fromkeys(
        ["less_than", "less_than_equal", "greater_than", "greater_than_equal", "multiple_of"], _Wording._out_of_range
    ),
    **dict.fromkeys(["too_short", "too_long", "string_too_short", "string_too_long"], _Wording._length),
    **dict.fromkeys(["value_error", "assertion_error"], _Wording._own_words),
}


def _shown(node: Node | None) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    if not isinstance(node, Scalar) or (node.plain and node.text == ""):
        return "nothing"
    return ticked(node.text if node.plain else f'"{node.text}"')


def _did_you_mean(given: str, known: list[str]) -> str:
    if not known:
        return "take it out"
    plain = {_plain(name): name for name in reversed(known)}
    near = difflib.get_close_matches(_plain(given), plain, n=1)
    near = near or [name for name in plain if len(given) >= _PREFIX and name.startswith(_plain(given))]
    guess = f"did you mean {ticked(plain[near[0]])}? " if near else ""
    return f"{guess}(known: {_all(known)})" if guess else f"write one of those known: {_all(known)}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def _all(known: Iterable[str]) -> str:
    return ", ".join(one_line(name) for name in known)


def _keyed(path: KeyPath, value: str) -> str:
    """Return an example as it stands in the file: `port: 8080`, or `8080` for an item of a list."""
    return f"{path[-1]}: {value}" if path and isinstance(path[-1], str) else value
