"""The routes of llama-server that clients may use, by mode (contract 2). Nothing else of it can be reached."""

from dataclasses import dataclass

from gpu_server.settings import Mode


@dataclass(frozen=True, slots=True)
class Route:
    """One proxied route: its method, whether it takes a slot, its name in metrics (OpenTelemetry's if any)."""

    method: str
    operation: str
    takes_slot: bool = True


_CHAT = {
    "/v1/chat/completions": Route("POST", "chat"),
    "/v1/completions": Route("POST", "text_completion"),
    "/v1/responses": Route("POST", "responses"),
    "/v1/messages": Route("POST", "messages"),
    "/apply-template": Route("POST", "apply_template", takes_slot=False),
}
_BY_MODE: dict[Mode, dict[str, Route]] = {
    "chat": _CHAT,
    "embedding": {"/v1/embeddings": Route("POST", "embeddings")},
    "rerank": {"/v1/rerank": Route("POST", "rerank")},
    "transcription": {"/v1/audio/transcriptions": Route("POST", "transcription")},
}
_ALWAYS = {
    "/v1/models": Route("GET", "models", takes_slot=False),
    "/tokenize": Route("POST", "tokenize", takes_slot=False),
    "/detokenize": Route("POST", "detokenize", takes_slot=False),
}
# Routes that need no key.
OPEN_PATHS = frozenset({"/health", "/metrics"})
# Which mode serves a route: for the message to someone who asks the wrong server.
MODE_OF = {path: mode for mode, routes in _BY_MODE.items() for path in routes}


def routes_for(mode: Mode) -> dict[str, Route]:
    """Return the proxied routes of a server in `mode`, by path."""
    return {**_ALWAYS, **_BY_MODE[mode]}
