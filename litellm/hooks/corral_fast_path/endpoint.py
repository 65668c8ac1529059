"""The gate's endpoints for models of the farm: which requests are theirs, and which LiteLLM's own.

Each stands before LiteLLM's own route of the same path, behind its middlewares and before its exception handlers.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from litellm.proxy import proxy_server
from litellm.proxy.common_utils.http_parsing_utils import read_request_body
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral_fast_path import coverage, metrics
from corral_fast_path.exchange import Exchange
from corral_fast_path.form import Form
from corral_fast_path.kinds import Kind


class Endpoint:
    """ASGI application for one kind of request. `stock` is LiteLLM's own route, for what is not the fast path's."""

    def __init__(self, kind: Kind, stock: ASGIApp) -> None:
        self._kind = kind
        self._stock = stock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if self._kind.is_form:
            await self._answer_form(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        if reason := await self._why_not(request):
            metrics.count_stock(reason)
            await self._stock(scope, _replay(_whole(body), receive), send)
            return
        metrics.count_fast()
        await Exchange(self._kind, request, send).run()

    async def _answer_form(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is a form, which is never in memory as a whole.

        Raises:
            ProxyException: LiteLLM's, if it is malformed.
        """
        if not Headers(scope=scope).get("content-type", "").lower().startswith("multipart/form-data"):
            metrics.count_stock("body")
            await self._stock(scope, receive, send)  # unread: it says what is wrong
            return
        async with AsyncExitStack() as stack:
            request = Request(scope, receive)
            stack.push_async_callback(request.close)  # the files
            fields = await read_request_body(request=request)
            if reason := coverage.why_not(self._kind, fields, proxy_server.llm_router):
                metrics.count_stock(reason)
                form = Form((await request.form()).multi_items())
                others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
                scope["headers"] = [*others, (b"content-type", form.content_type.encode())]
                await self._stock(scope, _replay(form.pieces(), receive), send)
                return
            metrics.count_fast()
            await Exchange(self._kind, request, send).run()

    async def _why_not(self, request: Request) -> str | None:
        try:  # LiteLLM's parser leaves what it made of the body in the scope: its own route does not parse again
            body = await read_request_body(request=request)
        except Exception:  # noqa: BLE001  # LiteLLM's own route says what is wrong with it
            return "body"
        return coverage.why_not(self._kind, body, proxy_server.llm_router)


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _replay(pieces: AsyncIterator[bytes], receive: Receive) -> Receive:
    """Return what gives a body that has been read once more, and then what comes after it."""
    ended = False

    async def again() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        piece = await anext(pieces, None)
        ended = piece is None
        return {"type": "http.request", "body": piece or b"", "more_body": not ended}

    return again
