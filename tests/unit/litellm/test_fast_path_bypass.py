"""The middle of a stream goes past middlewares that are known to want nothing of it, and through all others."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral_fast_path import bypass


class Other:
    """A middleware that sees all that is sent."""

    def __init__(self, app: ASGIApp, seen: list[bytes]) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            self._seen.append(message.get("body", b"start"))
            await send(message)

        await self._app(scope, receive, noting if scope["type"] == "http" else send)


class Known(Other):
    """One that is known."""

    __module__ = "litellm.proxy.middleware"


class Streamed:
    """An endpoint that is an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        middle = bypass.past_middlewares(scope, send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part, way in ((b"a", send), (b"b", middle), (b"c", middle)):
            await way({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"d"})


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize(("kind", "sees"), [(Known, b"ad"), (Other, b"abcd")])
async def test_who_sees_what(kind: type[Other], sees: bytes, running: bool) -> None:
    seen: list[bytes] = []
    middlewares = [Middleware(CORSMiddleware, allow_origins=["*"]), Middleware(kind, seen=seen)]
    app = Starlette(routes=[Route("/", endpoint=Streamed())], middleware=middlewares)
    if running:
        app.middleware_stack = app.build_middleware_stack()
    bypass.install(app)
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Message:
        raise AssertionError

    headers = [(b"origin", b"http://a")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    assert b"".join(sent) == b"abcd"
    assert b"".join(seen) == b"start" + sees
