"""Refuses bodies that LiteLLM would stumble over: JSON that is no object, and what is too large.

LiteLLM 1.106 answers `[]`, `null` or `"text"` with status 500 and no reason; a client deserves a 400 that says what
is wrong. It reads a body whole before it asks for a key, however large: one client without a key could take all of the
gate's memory. Only the first byte is looked at, and the length: nothing is buffered, nothing is parsed twice.

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
MOST_OF_A_BODY = 100 << 20
"""Bytes. A gpu-server takes fewer, by MAX_BODY_MIB; what is of no use to any must not fill the gate."""

_WITH_BODY = ("POST", "PUT", "PATCH")
_NO_OBJECT = 'the request body must be a JSON object: {"model": ..., ...}'
_TOO_LARGE = f"the request body has more than {MOST_OF_A_BODY >> 20} MiB, which is the most that this gate takes"


class BodyGuard:
    """ASGI application before another: answers what it must not see of bodies, passes on the rest."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self._app(scope, receive, send)
            return
        length = _header(scope, b"content-length")
        if length.isdigit() and int(length) > MOST_OF_A_BODY:
            await _refuse(send, 413, _TOO_LARGE)
            return
        if scope["method"] == "POST" and _header(scope, b"content-type", b"application/json").startswith(
            b"application/json"
        ):
            first = await receive()
            start = bytes(first.get("body", b"")).lstrip(BLANKS)[:1]
            if first["type"] == "http.request" and start and start != OBJECT:
                await _refuse(send, 400, _NO_OBJECT)
                return
            receive = _again(first, receive)
        if length:
            await self._app(scope, receive, send)
        else:
            await _Measured(receive, send).run(self._app, scope)


class _Measured:
    """A request that does not say how large its body is: answered from here as soon as it is too large."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._inner_receive = receive
        self._inner_send = send
        self._taken = 0
        self._answering = False
        self._refused = False

    async def run(self, app: App, scope: Scope) -> None:
        """Have the application answer. Whatever it makes of a body that breaks off is not sent."""
        try:
            await app(scope, self._receive, self._send)
        except _TooLargeError:
            if self._answering:
                raise
            await self._refuse()

    async def _receive(self) -> Message:
        message = await self._inner_receive()
        self._taken += len(message.get("body", b""))
        if self._taken > MOST_OF_A_BODY:
            raise _TooLargeError(_TOO_LARGE)
        return message

    async def _send(self, message: Message) -> None:
        if self._taken > MOST_OF_A_BODY and not self._answering:
            await self._refuse()
        else:
            self._answering = True
            await self._inner_send(message)

    async def _refuse(self) -> None:
        if not self._refused:
            self._refused = True
            await _refuse(self._inner_send, 413, _TOO_LARGE)


class _TooLargeError(Exception):
    """More of a body has come than the gate takes."""


def _again(first: Message, receive: Receive) -> Receive:
    pending = [first]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def _header(scope: Scope, wanted: bytes, default: bytes = b"") -> bytes:
    found = next((value for name, value in scope["headers"] if name == wanted), default)
    return bytes(found).lower()


async def _refuse(send: Send, status: int, message: str) -> None:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": str(status)}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
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
