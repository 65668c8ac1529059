"""What is sent: the requests of load-tests/workload.json, as the k6 scripts draw them."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from corral.errors import CorralError
from corral.paths import CHECKOUT
from corral.render.k6 import ModelTarget

FILE = CHECKOUT / "load-tests" / "workload.json"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the gate. `streamed`: its answer begins before it is whole."""

    path: str
    body: dict[str, Any]
    streamed: bool = False


def request_for(model: ModelTarget, chance: random.Random) -> Request:
    """Draw a request to a model.

    Raises:
        CorralError: nothing is known to ask a model of its mode.
    """
    return asker(model["mode"])(model, chance)


def asker(mode: str) -> Callable[[ModelTarget, random.Random], Request]:
    """Return what draws requests to models of a mode.

    Raises:
        CorralError: there is none.
    """
    if mode not in _ASKERS:
        known = ", ".join(_ASKERS)
        raise CorralError(f"no load is known for models of mode {mode}", f"name models of {known}", exit_code=2)
    return _ASKERS[mode]


def _chat(model: ModelTarget, chance: random.Random) -> Request:
    most = int(model["context"] * _workload()["context_share"]["answer"])
    prompt = _words(chance, _length("prompt_words", _room(model), chance))
    body = {
        "model": model["name"],
        "messages": [{"role": "user", "content": f"Tell a story with these words: {prompt}"}],
        "max_tokens": _length("answer_tokens", most, chance),
        "stream": True,
    }
    return Request("/v1/chat/completions", body, streamed=True)


def _embedding(model: ModelTarget, chance: random.Random) -> Request:
    count = _workload()["embedding_batch"]
    texts = [_words(chance, _length("embedding_words", _room(model), chance)) for _ in range(count)]
    return Request("/v1/embeddings", {"model": model["name"], "input": texts})


def _rerank(model: ModelTarget, chance: random.Random) -> Request:
    texts = [_words(chance, _length("embedding_words", _room(model) // 2, chance)) for _ in range(9)]
    return Request("/v1/rerank", {"model": model["name"], "query": texts[0], "documents": texts[1:]})


_ASKERS: dict[str, Callable[[ModelTarget, random.Random], Request]] = {
    "chat": _chat,
    "embedding": _embedding,
    "rerank": _rerank,
}


def _room(model: ModelTarget) -> int:
    return int(model["context"] * _workload()["context_share"]["prompt"])


def _length(distribution: str, most: int, chance: random.Random) -> int:
    of = _workload()[distribution]
    return int(max(of["least"], min(most, round(of["median"] * chance.lognormvariate(0, of["sigma"])))))


def _words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(_workload()["words"], k=count))


@cache
def _workload() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text(encoding="utf-8")))
