"""What a Pydantic model wants at each place of a file, read from its core schema.

Pydantic's errors say where (`loc`) in the model's terms: between the keys stand names of union members and tags. To
find the value in the file, and to say what is wanted there, the schema is walked along with the `loc`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter

from corral.yamlfile.problems import KeyPath

Schema = Mapping[str, Any]
Loc = tuple[int | str, ...]

_KEY_STEP = "[key]"
_INNER = {
    "definitions": "schema", "model-field": "schema", "dataclass-field": "schema", "typed-dict-field": "schema",
    "function-before": "schema", "function-after": "schema", "function-wrap": "schema", "default": "schema",
    "nullable": "schema", "custom-error": "schema", "lax-or-strict": "lax_schema", "json-or-python": "python_schema",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spot:
    """The place that an error's `loc` means.

    Attributes:
        path: its keys and indices, without the names of union members.
        schemas: what is wanted there; several where the union's member is not known.
        parents: the schemas of what it stands in.
        on_key: the key itself is meant, not its value.
        members: for each union on the way, how much of the `loc` lies before it, and the name of the member.
    """

    path: KeyPath
    schemas: tuple[Schema, ...]
    parents: tuple[Schema, ...]
    on_key: bool
    members: tuple[tuple[int, str], ...]


class Shapes:
    """The schemas of one model."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.root: Schema = TypeAdapter(model).core_schema
        self._definitions: dict[str, Schema] = {}
        if self.root["type"] == "definitions":
            self._definitions = {definition["ref"]: definition for definition in self.root["definitions"]}

    def inner(self, schema: Schema) -> Schema | None:
        """Return what a default, a validator, a reference or the like is put around; None if the schema is bare."""
        kind = schema["type"]
        inner: Schema | None = None
        if kind == "definition-ref":
            inner = self._definitions[schema["schema_ref"]]
        elif kind == "chain":
            inner = schema["steps"][0]
        elif kind in _INNER:
            inner = schema[_INNER[kind]]
        elif kind == "model" and schema.get("root_model"):
            inner = schema["schema"]
        return inner

    def bare(self, schema: Schema) -> Schema:
        """Return a schema without defaults, validators and the like around it."""
        while (inner := self.inner(schema)) is not None:
            schema = inner
        return schema

    def members(self, schema: Schema) -> Iterator[Schema]:
        """Yield the bare schemas of a union's members, of unions among them too; of any other schema itself."""
        schema = self.bare(schema)
        for choice in self._choices(schema).values():
            yield from self.members(choice)
        if schema["type"] not in {"union", "tagged-union"}:
            yield schema

    def fields(self, schema: Schema) -> dict[str, Schema] | None:
        """Return the fields of a model, dataclass or typed dict by the keys a file gives them; None for the rest."""
        schema = self.bare(schema)
        kind = schema["type"]
        if kind in {"model", "dataclass"}:
            by_name = _by_name(schema)
            schema = self.bare(schema["schema"])
            fields = schema.get("fields", {})
            if isinstance(fields, list):  # a dataclass's
                fields = {field["name"]: field for field in fields}
            return {key: field for name, field in fields.items() for key in _keys(name, field, by_name=by_name)}
        if kind in {"typed-dict", "model-fields"}:
            return {key: field for name, field in schema["fields"].items() for key in _keys(name, field, by_name=False)}
        return None

    def children(self, schema: Schema, step: int | str) -> Iterator[Schema]:
        """Yield what is wanted at a key or index of a value, for each member of a union."""
        for member in self.members(schema):
            fields = self.fields(member)
            if fields is not None:
                if step in fields:
                    yield fields[str(step)]
            elif member["type"] == "dict" and isinstance(step, str):
                if "values_schema" in member:
                    yield member["values_schema"]
            elif isinstance(step, int):
                yield from _items(member, step)

    def at(self, path: KeyPath) -> tuple[Schema, ...]:
        """Return the bare schemas of what may stand at a path."""
        schemas: tuple[Schema, ...] = (self.root,)
        for step in path:
            schemas = tuple(child for schema in schemas for child in self.children(schema, step))
        return tuple(member for schema in schemas for member in self.members(schema))

    def spot(self, loc: Loc, data: Any) -> Spot:
        """Return the place in the file that an error's `loc` means.

        Args:
            loc: of one of a ValidationError's errors.
            data: what was validated.
        """
        schemas: tuple[Schema, ...] = (self.root,)
        parents: tuple[Schema, ...] = ()
        path: KeyPath = ()
        members: list[tuple[int, str]] = []
        for index, step in enumerate(loc):
            if step == _KEY_STEP and index == len(loc) - 1:
                keys = tuple(member["keys_schema"] for schema in parents for member in self._dicts(schema))
                return Spot(path, keys, parents, on_key=True, members=tuple(members))
            chosen = self._chosen(schemas, step)
            if chosen:
                schemas = chosen
                members.append((index, str(step)))
                continue
            children = tuple(child for schema in schemas for child in self.children(schema, step))
            inside = _descend(data, step)
            if not children and inside is _ABSENT and index < len(loc) - 1:
                continue  # the name of a member of a union that the schema hides behind a function
            parents, schemas = schemas, children
            path += (step,)
            data = inside
        return Spot(path, schemas, parents, on_key=False, members=tuple(members))

    def _dicts(self, schema: Schema) -> Iterator[Schema]:
        yield from (member for member in self.members(schema) if member["type"] == "dict" and "keys_schema" in member)

    def _chosen(self, schemas: tuple[Schema, ...], name: int | str) -> tuple[Schema, ...]:
        """Return the members of unions that a step of a `loc` may name: nothing if there is no union."""
        chosen: list[Schema] = []
        for schema in schemas:
            choices = self._choices(self.bare(schema))
            # `function-after[check(), Dog]` is the name of a model with a validator.
            named = [choice for label, choice in choices.items() if label == name or f" {label}]" in str(name)]
            chosen += named or choices.values()
        return tuple(chosen)

    def _choices(self, schema: Schema) -> dict[str, Schema]:
        """Return the members of a union by the names that Pydantic gives them where they can be told, else a number."""
        if schema["type"] == "tagged-union":
            return {str(getattr(tag, "value", tag)): choice for tag, choice in schema["choices"].items()}
        if schema["type"] != "union":
            return {}
        choices = {}
        for number, choice in enumerate(schema["choices"]):
            member, label = choice if isinstance(choice, tuple) else (choice, None)
            choices[label or self._name(member) or f"#{number}"] = member
        return choices

    def _name(self, schema: Schema) -> str | None:
        bare = self.bare(schema)
        return (
            bare["cls"].__name__ if bare["type"] == "model" and schema["type"] in {"model", "definition-ref"} else None
        )


_ABSENT = object()


def _descend(data: Any, step: int | str) -> Any:
    if isinstance(data, dict):
        return data.get(step, _ABSENT)
    if isinstance(data, list) and isinstance(step, int) and step < len(data):
        return data[step]
    return _ABSENT


def _by_name(schema: Schema) -> bool:
    config = schema.get("config", {})
    return bool(config.get("validate_by_name") or config.get("populate_by_name"))


def _keys(name: str, field: Schema, *, by_name: bool) -> list[str]:
    """Return the keys under which a file may give a field."""
    alias = field.get("validation_alias")
    if alias is None:
        return [name]
    if isinstance(alias, str):
        keys = [alias]
    else:  # AliasPath, AliasChoices: lists of steps; only those of one step are keys of this mapping
        keys = [str(steps[0]) for steps in (alias if isinstance(alias[0], list) else [alias]) if len(steps) == 1]
    return [*keys, name] if by_name and name not in keys else keys


def _items(schema: Schema, index: int) -> Iterator[Schema]:
    items = schema.get("items_schema")
    if items is None:
        return
    if not isinstance(items, list):
        yield items
    elif (variadic := schema.get("variadic_item_index")) is not None and index >= variadic:
        yield items[variadic]
    elif index < len(items):
        yield items[index]
