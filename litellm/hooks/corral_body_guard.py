"""Refuses JSON bodies that are no object before LiteLLM stumbles over them.

LiteLLM 1.106 answers `[]`, `null` or `"text"` with status 500 and no reason; a client deserves a 400 that says what
is wrong. Only the first byte of a body is looked at: nothing is buffered, nothing is parsed twice.

LiteLLM loads this as a callback (`litellm_settings.callbacks: ["corral_body_guard.guard"]`) while it starts; the
guard then stands before its whole application.
"""

import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BLANKS = b" \t\r\n"
OBJECT = b"{"


class BodyGuard:
    """ASGI application before another: answers a POST of JSON that cannot be an object, passes on the rest."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if not _is_json_post(scope):
            await self._app(scope, receive, send)
            return
        first = await receive()
        start = bytes(first.get("body", b"")).lstrip(BLANKS)[:1]
        if first["type"] == "http.request" and start and start != OBJECT:
            await _refuse(send)
            return
        pending: list[Message] = [first]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)


def _is_json_post(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return not kinds or kinds[0].lower().startswith(b"application/json")


async def _refuse(send: Send) -> None:
    error = {
        "message": 'the request body must be a JSON object: {"model": ..., ...}',
        "type": "invalid_request_error",
        "param": None,
        "code": "400",
    }
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Guard(CustomLogger):
    """Does nothing as a callback; being loaded as one is what puts the guard in place."""

    def install(self, app: Any) -> None:
        """Put a `BodyGuard` before `app` (a Starlette application), running or not."""
        if app.middleware_stack is None:
            app.add_middleware(BodyGuard)
        else:
            app.middleware_stack = BodyGuard(app.middleware_stack)


guard = Guard()


def _load() -> None:
    proxy = sys.modules.get("litellm.proxy.proxy_server")
    if proxy is not None:  # not in a test, nor where LiteLLM is used as a library
        guard.install(proxy.app)


_load()
