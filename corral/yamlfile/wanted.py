"""What a schema wants, in words and as an example, for the mend of an error."""

import json
import re
from collections.abc import Iterable
from typing import Any

from corral.yamlfile.problems import listed, one_line
from corral.yamlfile.scalars import read_plain
from corral.yamlfile.shapes import Schema, Shapes

_ONE_AND_MANY = {
    "int": ("a whole number", "whole numbers"),
    "float": ("a number", "numbers"),
    "decimal": ("a number", "numbers"),
    "str": ("text", "texts"),
    "bool": ("true or false", "true or false"),
    "none": ("null", "nulls"),
    "dict": ("a mapping", "mappings"),
    "typed-dict": ("a mapping", "mappings"),
    "model": ("a mapping", "mappings"),
    "dataclass": ("a mapping", "mappings"),
    "list": ("a list", "lists"),
    "tuple": ("a list", "lists"),
    "set": ("a list", "lists"),
    "frozenset": ("a list", "lists"),
    "url": ("a URL", "URLs"),
    "multi-host-url": ("a URL", "URLs"),
    "date": ("a date", "dates"),
    "datetime": ("a date and time", "dates with times"),
    "time": ("a time of day", "times of day"),
    "timedelta": ("a duration in seconds", "durations in seconds"),
    "uuid": ("a UUID", "UUIDs"),
}
_EXAMPLES: dict[str, Any] = {
    "int": 1, "float": 1.5, "decimal": 1.5, "str": "text", "bool": True, "url": "http://127.0.0.1:8080",
    "date": "2026-01-31", "datetime": "2026-01-31T12:00:00Z", "time": "12:00:00", "timedelta": 30,
    "uuid": "00000000-0000-4000-8000-000000000000",
}  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:+-]*")
NUMBERS = {"int", "float", "decimal"}
LISTS = {"list", "tuple", "set", "frozenset"}
MAPPINGS = {"dict", "typed-dict", "model", "dataclass"}


def wanted(shapes: Shapes, schemas: Iterable[Schema]) -> str:
    """Return what schemas want, as in "a whole number from 1 to 8, `all` or a list of whole numbers"."""
    words = [_one(shapes, member) for schema in schemas for member in shapes.members(schema)]
    distinct = [word for word in dict.fromkeys(words) if word]
    return listed(distinct, show=str) if distinct else "another kind of value"


def names(shapes: Shapes, schemas: Iterable[Schema]) -> list[str]:
    """Return the fixed texts (of literals and enums) that schemas allow."""
    members = [member for schema in schemas for member in shapes.members(schema)]
    values = [getattr(value, "value", value) for member in members for value in _fixed(member)]
    return list(dict.fromkeys(_written(value) for value in values))


def example(shapes: Shapes, schemas: Iterable[Schema]) -> str | None:
    """Return a value that schemas take, on one line: the field's own example, its default, or one of its kind."""
    for schema in schemas:
        value = _example(shapes, schema)
        if value is not None:
            return one_line(_written(value))
    return None


def limits(schema: Schema) -> str:
    """Return a number's limits, as in "from 1 to 65535"; "" if it has none."""
    low, high = schema.get("ge"), schema.get("le")
    if low is not None and high is not None:
        return f"from {low} to {high}"
    bounds = [("ge", "of at least"), ("gt", "above"), ("le", "of at most"), ("lt", "below")]
    given = [f"{word} {schema[bound]}" for bound, word in bounds if schema.get(bound) is not None]
    if schema.get("multiple_of") is not None:
        given.append(f"divisible by {schema['multiple_of']}")
    return " and ".join(given)


def _one(shapes: Shapes, schema: Schema) -> str:
    kind = schema["type"]
    if fixed := _fixed(schema):
        return listed(_written(getattr(value, "value", value)) for value in fixed)
    words = _ONE_AND_MANY.get(kind, ("", ""))[0]
    if kind in NUMBERS and limits(schema):
        return f"{words} {limits(schema)}"
    if kind in LISTS and (item := _item(schema)) is not None:
        kinds = {member["type"] for member in shapes.members(item)}
        many = _ONE_AND_MANY.get(kinds.pop(), ("", ""))[1] if len(kinds) == 1 else ""
        return f"{words} of {many}" if many else words
    return words


def _fixed(schema: Schema) -> list[Any]:
    if schema["type"] == "literal":
        return list(schema["expected"])
    return list(schema["members"]) if schema["type"] == "enum" else []


def _item(schema: Schema) -> Schema | None:
    items: Any = schema.get("items_schema")
    if isinstance(items, list):
        return items[0] if items else None
    return items  # type: ignore[no-any-return]  # a schema is a dict of anything


def _example(shapes: Shapes, schema: Schema) -> Any:
    """Return the first example or default found on the way inwards, else one that the bare schema takes."""
    inward: Schema | None = schema
    while inward is not None:
        stated = (inward.get("metadata") or {}).get("pydantic_js_updates", {}).get("examples")
        if stated:
            return stated[0]
        default = inward.get("default") if inward["type"] == "default" else None
        if isinstance(default, bool | int | float | str) and default != "":
            return getattr(default, "value", default)
        inward = shapes.inner(inward)
    bare = next(shapes.members(schema))
    kind = bare["type"]
    if fixed := _fixed(bare):
        return getattr(fixed[0], "value", fixed[0])
    if kind in LISTS:
        item = _item(bare)
        value = None if item is None else _example(shapes, item)
        return None if value is None else [value]
    if kind == "str" and (bare.get("pattern") or bare.get("min_length", 0) > len("text")):
        return None
    value = _EXAMPLES.get(kind)
    return _within(bare, value) if kind in NUMBERS else value


def _within(schema: Schema, value: Any) -> Any:
    """Return a number that keeps the limits of a schema, or None if none is near at hand."""
    multiple, above, below = schema.get("multiple_of"), schema.get("gt"), schema.get("lt")
    for bound in (schema.get("ge"), schema.get("le"), above and above + 1, below and below - 1, multiple):
        if not _keeps(schema, value) and bound is not None:
            value = bound
    return value if _keeps(schema, value) else None


def _keeps(schema: Schema, value: Any) -> bool:
    return (
        (schema.get("ge") is None or value >= schema["ge"])
        and (schema.get("le") is None or value <= schema["le"])
        and (schema.get("gt") is None or value > schema["gt"])
        and (schema.get("lt") is None or value < schema["lt"])
        and (schema.get("multiple_of") is None or value % schema["multiple_of"] == 0)
    )


def _written(value: Any) -> str:
    """Return a value as a person would write it in YAML, on one line."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and read_plain(value) == (value, "") else json.dumps(value)
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(_written(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(key)}: {_written(item)}" for key, item in value.items()) + "}"
    return json.dumps(value) if value is None or isinstance(value, bool | int | float) else json.dumps(str(value))
