"""What load is made of: load-tests/workload.json, or an owner's file that says only what is different."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field, ValidationError

from corral.errors import CorralError
from corral.farm.values import Part
from corral.paths import CHECKOUT

SHIPPED = CHECKOUT / "load-tests" / "workload.json"
Share = Annotated[float, Field(ge=0, le=1)]
WorkloadOption = Annotated[
    Path | None,
    typer.Option("--workload", metavar="FILE", help="Lengths and shares of your own, over those of workload.json."),
]


class Lengths(Part):
    """A log-normal distribution of lengths, in words or tokens. `sigma` is of the logarithm; 0: all alike."""

    median: float = Field(gt=0)
    sigma: float = Field(ge=0, le=3)
    least: int = Field(ge=1)


class Shares(Part):
    """Of a mixture's requests, as fractions; what is left are batches of texts for vectors."""

    chat_stream: Share
    chat_whole: Share
    embedding: Share


class Pause(Part):
    """How long a person reads, in seconds."""

    least: float = Field(ge=0)
    most: float = Field(ge=0)


class Room(Part):
    """How much of a model's context a prompt and an answer may take, as fractions."""

    prompt: Share
    answer: Share


class Workload(Part):
    """What k6, Locust and `corral capacity` send."""

    prompt_words: Lengths
    answer_tokens: Lengths
    embedding_words: Lengths
    embedding_batch: int = Field(ge=1)
    shares: Shares
    think_time_s: Pause
    context_share: Room
    words: list[str] = Field(min_length=1)


def read(path: Path | None) -> Workload:
    """Return the shipped workload, with what a file of the owner's says in its place.

    Raises:
        CorralError: the file cannot be read, or does not say a workload.
    """
    shipped = _document(SHIPPED)
    document = _over(shipped, _document(path)) if path else shipped
    try:
        return Workload.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise CorralError(
            f"{path}: {where}: {first['msg'].lower()}", f"write it as in {SHIPPED.name}, or leave it out", exit_code=2
        ) from None


def _document(path: Path) -> dict[str, Any]:
    mend = 'give a file like {"answer_tokens": {"median": 100, "sigma": 0}}'
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorralError(f"{path} cannot be read as a workload ({error})", mend, exit_code=2) from None
    if not isinstance(found, dict):
        raise CorralError(f"{path} is no workload: it holds a {type(found).__name__}", mend, exit_code=2)
    found.pop("_comment", None)
    return found


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(name), dict):
            merged[name] = {**below[name], **value}
    return merged
