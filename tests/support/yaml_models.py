"""A small farm of models with all that Pydantic models have, for the tests of corral.yamlfile."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from corral.yamlfile import YamlFileErrors, loads


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mode(StrEnum):
    CHAT = "chat"
    EMBEDDING = "embedding"


class Local(Strict):
    kind: Literal["local"]
    path: Path


class Hub(Strict):
    kind: Literal["hub"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", examples=["org/name"])
    stars: int = Field(0, ge=0, le=5)


class Model(Strict):
    """A model.

    Attributes:
        source: where the weights come from.
        context: tokens that
            one slot holds.
    """

    source: Annotated[Local | Hub, Field(discriminator="kind")]
    context: int = Field(4096, ge=256)
    mode: Mode = Mode.CHAT
    cache_type: Literal["f16", "q8_0"] = "f16"


class Card(Strict):
    name: str
    capability: str = "6.1"


class Box(Strict):
    address: str
    port: int = Field(ge=1, le=65535, examples=[8080])
    gpus: Literal["all"] | int | list[int] | None = None
    devices: list[Card | Local] = []
    api_key: str | None = None
    base_url: str | None = None
    power: float = 90
    flash: bool = True
    labels: dict[Annotated[str, Field(pattern="^[a-z]+$")], str] = {}
    spare: "Box | None" = None
    slots: int = Field(1, alias="parallel")

    @model_validator(mode="after")
    def _no_port_one(self) -> "Box":
        if self.port == 1:
            raise ValueError("port 1 needs root; take one above 1023")
        return self


class Farm(Strict):
    boxes: list[Box] = Field(min_length=1)
    models: dict[str, Model] = {}


GOOD = """\
boxes:
  - address: box-1
    port: 8080
    gpus: [0, 1]
    labels: {room: cellar}
  - address: box-2
    port: 8081
    gpus: all
    devices:
      - {name: P104-100, capability: "6.1"}
    spare:
      address: box-3
      port: 8082
models:
  llama-3.1:
    source: {kind: local, path: /models/a.gguf}
    context: 16384
    mode: chat
    cache_type: q8_0
  nomic:
    source:
      kind: hub
      repository: nomic-ai/nomic
      stars: 5
"""


def faults(text: str) -> list[str]:
    """Return what is said about a text, one line for each problem; nothing if it is a farm."""
    try:
        loads(text, "farm.yaml", Farm)
    except YamlFileErrors as errors:
        return str(errors).split("\n")
    return []
