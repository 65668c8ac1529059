"""What runs where."""

from typing import Literal

from pydantic import Field

from corral.farm.values import ModelName, Name, Part, Ports


class Placement(Part):
    """A group of equal servers: one for each GPU named, or `count` of them on the CPU."""

    model: ModelName = Field(description="A name of `models`.")
    host: Name = Field(description="A name of `hosts`.")
    gpus: tuple[int, ...] | Literal["all"] = Field(
        default=(), description="A server on each of these cards, by their place in the host's list, from 0."
    )
    count: int | None = Field(
        default=None, ge=1, le=1024, description="Servers without a GPU; with gpus: all, where the host has none."
    )
    ports: Ports = Field(description="A port for each server, in their order: 8080-8086, one port, or a list.")
    name: Name | None = Field(default=None, description="Servers are NAME-1, NAME-2, ...; unset: the model's name.")
    memory_mib: int | None = Field(default=None, ge=64, description="Limit of each container, over the model's.")
