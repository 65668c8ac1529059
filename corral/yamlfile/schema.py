"""The JSON schema of a model, for editors that complete and check the file while it is written."""

import inspect
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SECTION = re.compile(r"\n\s*(?:Attributes|Args|Raises|Example|Examples|Note|Notes):\s*(?:\n|$)")
_ATTRIBUTE = re.compile(r"^ {4}(\w+)(?: \([^)]*\))?: (.+(?:\n {5,}.+)*)", re.MULTILINE)


def json_schema(model: type[BaseModel], title: str, id: str) -> dict[str, Any]:  # noqa: A002  # JSON schema's word
    """Return a model's JSON schema (draft 2020-12), the same each time: fields in their order, definitions by name.

    Descriptions come from the fields, else from the `Attributes:` of their class's docstring. Keys that the model does
    not know are refused.

    Args:
        model: what the file holds.
        title: what editors call it.
        id: the address it is published at.
    """
    made = model.model_json_schema(by_alias=True, schema_generator=_Generator, mode="validation")
    definitions = made.pop("$defs", {})
    if "$ref" in made:  # a model that holds itself is among its own definitions
        made.update(definitions[made["$ref"].rpartition("/")[2]])
        del made["$ref"]
    schema = {"$schema": _DIALECT, "$id": id, **made, "title": title}
    if definitions:
        schema["$defs"] = {name: definitions[name] for name in sorted(definitions)}
    return schema


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, with closed objects and the descriptions of Google docstrings."""

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        made = super().dict_schema(schema)
        if "patternProperties" in made:  # else a key of another form would be taken
            made["additionalProperties"] = False
        return made

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        if made.get("type") != "object":  # a root model
            return made
        made.setdefault("additionalProperties", False)
        documentation = inspect.cleandoc(schema["cls"].__doc__ or "")
        if "description" in made:
            made["description"] = _SECTION.split(documentation, maxsplit=1)[0].strip()
        described = {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(documentation)}
        by_key = {field.alias or name: name for name, field in schema["cls"].model_fields.items()}
        for key, value in made.get("properties", {}).items():
            text = described.get(by_key.get(key, key))
            if text:
                value.setdefault("description", text)
        return made
