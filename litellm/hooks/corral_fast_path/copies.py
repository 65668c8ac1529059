"""Copies of LiteLLM's objects that requests may change without changing the one they were made of."""

from typing import TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def changeable(model: BaseModel) -> tuple[str, ...]:
    """Return which fields hold something that can be changed in place."""
    return tuple(name for name, value in model.__dict__.items() if isinstance(value, list | dict | set))


def copy_of(model: Model, fields: tuple[str, ...]) -> Model:
    """Return a copy with these fields copied too, as deep as LiteLLM's own making of the object goes."""
    copy = model.model_copy()
    values = copy.__dict__  # what is assigned to a field counts as set, and would be dumped
    for name in fields:
        values[name] = values[name].copy()
    return copy
