"""What is sent: the requests of a workload, as the k6 scripts draw them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from corral.errors import CorralError
from corral.loadtest.workload import Lengths, Workload
from corral.render.k6 import ModelTarget


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the gate. `streamed`: its answer begins before it is whole."""

    path: str
    body: dict[str, Any]
    streamed: bool = False


def request_for(model: ModelTarget, workload: Workload, chance: random.Random) -> Request:
    """Draw a request to a model.

    Raises:
        CorralError: nothing is known to ask a model of its mode.
    """
    return asker(model["mode"])(model, workload, chance)


def asker(mode: str) -> Callable[[ModelTarget, Workload, random.Random], Request]:
    """Return what draws requests to models of a mode.

    Raises:
        CorralError: there is none.
    """
    if mode not in _ASKERS:
        known = ", ".join(_ASKERS)
        raise CorralError(f"no load is known for models of mode {mode}", f"name models of {known}", exit_code=2)
    return _ASKERS[mode]


def _chat(model: ModelTarget, workload: Workload, chance: random.Random) -> Request:
    most = int(model["context"] * workload.context_share.answer)
    prompt = _text(workload, workload.prompt_words, _room(model, workload), chance)
    body = {
        "model": model["name"],
        "messages": [{"role": "user", "content": f"Tell a story with these words: {prompt}"}],
        "max_tokens": _length(workload.answer_tokens, most, chance),
        "stream": True,
    }
    return Request("/v1/chat/completions", body, streamed=True)


def _embedding(model: ModelTarget, workload: Workload, chance: random.Random) -> Request:
    most = _room(model, workload)
    texts = [_text(workload, workload.embedding_words, most, chance) for _ in range(workload.embedding_batch)]
    return Request("/v1/embeddings", {"model": model["name"], "input": texts})


def _rerank(model: ModelTarget, workload: Workload, chance: random.Random) -> Request:
    most = _room(model, workload) // 2
    texts = [_text(workload, workload.embedding_words, most, chance) for _ in range(9)]
    return Request("/v1/rerank", {"model": model["name"], "query": texts[0], "documents": texts[1:]})


_ASKERS: dict[str, Callable[[ModelTarget, Workload, random.Random], Request]] = {
    "chat": _chat,
    "embedding": _embedding,
    "rerank": _rerank,
}


def _room(model: ModelTarget, workload: Workload) -> int:
    return int(model["context"] * workload.context_share.prompt)


def _length(lengths: Lengths, most: int, chance: random.Random) -> int:
    return max(lengths.least, min(most, round(lengths.median * chance.lognormvariate(0, lengths.sigma))))


def _text(workload: Workload, lengths: Lengths, most: int, chance: random.Random) -> str:
    return " ".join(chance.choices(workload.words, k=_length(lengths, most, chance)))
