"""The gate's endpoints for models of the farm: which requests are theirs, and which LiteLLM's own.

Each stands before LiteLLM's own route of the same path, behind its middlewares and before its exception handlers.
"""

from litellm.proxy import proxy_server
from litellm.proxy.common_utils.http_parsing_utils import read_request_body
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral_fast_path import coverage, metrics
from corral_fast_path.exchange import Exchange
from corral_fast_path.kinds import Kind


class Endpoint:
    """ASGI application for one kind of request. `stock` is LiteLLM's own route, for what is not the fast path's."""

    def __init__(self, kind: Kind, stock: ASGIApp) -> None:
        self._kind = kind
        self._stock = stock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        request = Request(scope, receive)
        body = await request.body()
        if reason := await self._why_not(request):
            metrics.count_stock(reason)
            await self._stock(scope, _replay(body, receive), send)
            return
        metrics.count_fast()
        await Exchange(self._kind, request, send).run()

    async def _why_not(self, request: Request) -> str | None:
        try:  # LiteLLM's parser leaves what it made of the body in the scope: its own route does not parse again
            body = await read_request_body(request=request)
        except Exception:  # noqa: BLE001  # LiteLLM's own route says what is wrong with it
            return "body"
        return coverage.why_not(self._kind, body, proxy_server.llm_router)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again
