"""The JSON schema: what editors are told is what the loader takes."""

import copy
import json
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from corral.yamlfile import json_schema
from support.yaml_models import GOOD, Farm, Model, faults

SCHEMA = json_schema(Farm, "A farm", "https://example.org/farm.json")
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def changed(*path: str | int, to: Any) -> Any:
    data = copy.deepcopy(yaml.safe_load(GOOD))
    at = data
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to
    return data


def test_the_schema_is_itself_in_order_and_takes_a_good_farm() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (SCHEMA["$id"], SCHEMA["title"]) == ("https://example.org/farm.json", "A farm")
    assert VALIDATOR.is_valid(yaml.safe_load(GOOD))


@pytest.mark.parametrize(
    "bad",
    [
        {},
        changed("zzz", to=1),
        changed("boxes", to=[]),
        changed("boxes", 0, "port", to=70000),
        changed("boxes", 0, "prot", to=1),
        changed("boxes", 0, "gpus", to="some"),
        changed("boxes", 0, "labels", to={"Room 1": "x"}),
        changed("boxes", 1, "spare", "zzz", to=1),
        changed("models", "nomic", "mode", to="chta"),
        changed("models", "nomic", "source", "kind", to="web"),
        changed("models", "nomic", "source", "zzz", to=1),
        changed("models", "nomic", "source", to={"kind": "hub"}),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(bad: Any) -> None:
    assert not VALIDATOR.is_valid(bad)
    assert faults(yaml.safe_dump(bad))


def test_the_schema_describes_fields_from_the_docstring() -> None:
    model = SCHEMA["$defs"]["Model"]
    assert model["description"] == "A model."
    assert model["properties"]["context"]["description"] == "tokens that one slot holds."
    assert model["properties"]["source"]["description"] == "where the weights come from."


def test_every_object_is_closed_and_the_order_is_always_the_same() -> None:
    models = [SCHEMA, *(part for part in SCHEMA["$defs"].values() if part.get("type") == "object")]
    assert all(part["additionalProperties"] is False for part in models)
    again = json_schema(Farm, "A farm", "https://example.org/farm.json")
    assert json.dumps(again) == json.dumps(SCHEMA)
    assert list(SCHEMA["$defs"]) == sorted(SCHEMA["$defs"])
    assert list(SCHEMA["properties"]) == list(Farm.model_fields)


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    branches: "list[Tree]" = []


def test_a_model_that_holds_itself_has_a_schema_too() -> None:
    validator = jsonschema.Draft202012Validator(json_schema(Tree, "Tree", "https://example.org/tree.json"))
    assert validator.is_valid({"branches": [{"branches": []}]})
    assert not validator.is_valid({"branches": [{"leaves": 1}]})


def test_a_single_model_has_a_schema() -> None:
    assert json_schema(Model, "M", "https://example.org/m.json")["required"] == ["source"]
