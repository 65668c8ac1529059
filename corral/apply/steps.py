"""One step of a change, handed to the keeper and followed to its end; and the request that proves a server."""

import os
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

import httpx

from corral import farmstate
from corral.errors import CorralError
from corral.farmstate import Failure, FarmState
from corral.keeper.changes import ChangeRequest
from corral.parts import Part
from corral.paths import StateDir
from corral.ports import HOST

_FOLLOW_S = 0.1
_PROBE_TIMEOUT_S = 120.0
# The least that each mode answers with work of the model.
_PROBES: dict[str, tuple[str, dict[str, object]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 4}),
    "embedding": ("/v1/embeddings", {"input": "ok"}),
    "rerank": ("/v1/rerank", {"query": "ok", "documents": ["ok"]}),
}


class Steps:
    """Hands steps to the keeper of a running farm.

    The gate leaves a server alone for a while after it refused requests, as one does that is being replaced. So no
    server is touched before the gate has had time to come back to the one before: else it would know of none.

    Args:
        state: the farm's.
        show: told of the farm's state as it changes.
        settle_s: how long the gate leaves a server alone.
    """

    def __init__(self, state: StateDir, show: Callable[[FarmState], None], settle_s: float) -> None:
        self._state = state
        self._show = show
        self._settle_s = settle_s
        self._not_before = 0.0

    def do(self, request: ChangeRequest) -> Failure | None:
        """Have the keeper do one step; return why it failed, None if it did not.

        Raises:
            CorralError: the keeper is gone.
        """
        request = replace(request, id=uuid.uuid4().hex)
        while time.monotonic() < self._not_before:
            self._show(self._farm())
            time.sleep(_FOLLOW_S)
        farm = self._farm()
        request.write(self._state)
        os.kill(farm.keeper_pid, signal.SIGUSR1)
        while True:
            farm = self._farm()
            self._show(farm)
            if farm.change is not None and farm.change.id == request.id and farm.change.done:
                if request.parts or request.restore:
                    self._not_before = time.monotonic() + self._settle_s
                return farm.change.failure
            time.sleep(_FOLLOW_S)

    def _farm(self) -> FarmState:
        farm = farmstate.read(self._state.state_file)
        if farm is None or farmstate.keeper(farm) is None:
            raise CorralError("the farm stopped while it was being changed", "start it again: make up")
        return farm


def prove(part: Part, mode: str, key: str) -> Failure | None:
    """Send a real request to a server; return what is wrong with the answer, None if nothing is.

    A mode that needs a file to work on (transcription) is taken at its word, its readiness.
    """
    if mode not in _PROBES:
        return None
    path, body = _PROBES[mode]
    mend = f"its log may say why: corral logs {part.name}"
    try:
        answer = httpx.post(
            f"http://{HOST}:{part.port}{path}", json=body, headers={"Authorization": f"Bearer {key}"},
            timeout=_PROBE_TIMEOUT_S, trust_env=False,
        )  # fmt: skip
    except httpx.HTTPError as error:
        return Failure(part.name, f"a request to it failed: {type(error).__name__}", mend)
    if answer.status_code != httpx.codes.OK:
        return Failure(part.name, f"a request to it was answered with {answer.status_code}: {answer.text[:200]}", mend)
    return None
