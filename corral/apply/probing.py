"""The request that proves a server: the least that its mode answers with work of the model."""

import httpx

from corral.farmstate import Failure

_TIMEOUT_S = 120.0
_PROBES: dict[str, tuple[str, dict[str, object]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 4}),
    "embedding": ("/v1/embeddings", {"input": "ok"}),
    "rerank": ("/v1/rerank", {"query": "ok", "documents": ["ok"]}),
}


def prove(server: str, url: str, mode: str, key: str, *, mend: str) -> Failure | None:
    """Send a real request to a server; return what is wrong with the answer, None if nothing is.

    A mode that needs a file to work on (transcription), or minutes (image), is taken at its word, its readiness.

    Args:
        server: its name, for the failure.
        url: of the server, without a path.
        mode: what it serves.
        key: of the gpu-servers.
        mend: what a person does about it.
    """
    if mode not in _PROBES:
        return None
    path, body = _PROBES[mode]
    try:
        answer = httpx.post(
            f"{url}{path}", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_S, trust_env=False
        )
    except httpx.HTTPError as error:
        return Failure(server, f"a request to it failed: {type(error).__name__}", mend)
    if answer.status_code != httpx.codes.OK:
        return Failure(server, f"a request to it was answered with {answer.status_code}: {answer.text[:200]}", mend)
    return None
