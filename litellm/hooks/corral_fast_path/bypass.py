"""Sends the middle of a stream past LiteLLM's middlewares, which look at an answer's head and its end.

Each of them is one coroutine more for each event, for nothing.
"""

from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

_SEND = "corral_fast_path.send"
_LOOK_AT_HEAD_AND_END = ("litellm.proxy.", "starlette.middleware.cors", "corral_")
"""Where the middlewares live of which that is known: read in LiteLLM's source, as far as `guard.TRIED` goes."""


class Bypass:
    """ASGI application before another one with all its middlewares: keeps how answers are sent without them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http":
            scope[_SEND] = send
        await self._app(scope, receive, send)


def install(app: Any) -> None:
    """Put a `Bypass` before an application (Starlette's), running or not."""
    if app.middleware_stack is None:
        app.add_middleware(Bypass)
    else:
        app.middleware_stack = Bypass(app.middleware_stack)


def past_middlewares(scope: Scope, send: Send) -> Send:
    """Return what sends the middle of a stream: `send` itself if a middleware is there that may want to see it."""
    middlewares: Sequence[Any] = scope["app"].user_middleware
    if _SEND in scope and all(one.cls.__module__.startswith(_LOOK_AT_HEAD_AND_END) for one in middlewares):
        short: Send = scope[_SEND]
        return short
    return send
