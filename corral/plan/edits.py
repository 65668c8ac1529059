"""Changes of a farm file's value, as a mend proposes them."""

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel

from corral.plan.figures import Edit
from corral.yamlfile import KeyPath

T = TypeVar("T")


def apply(farm: T, edits: Iterable[Edit]) -> T:
    """Return the farm with these values replaced; nothing is validated again."""
    for edit in edits:
        farm = _replaced(farm, edit.path, edit.value)
    return farm


def _replaced(part: Any, path: KeyPath, value: object) -> Any:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(part, BaseModel):
        return part.model_copy(update={str(step): _replaced(getattr(part, str(step)), rest, value)})
    if isinstance(part, dict):
        return {**part, step: _replaced(part[step], rest, value)}
    items = list(part)
    items[int(step)] = _replaced(items[int(step)], rest, value)
    return tuple(items)
