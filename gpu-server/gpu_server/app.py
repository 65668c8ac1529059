"""The ASGI application: checks the key, then sends a request to the relay or to the control routes."""

import hmac
from collections.abc import Mapping

from fastapi import FastAPI

from gpu_server.body import Receive
from gpu_server.delivery import Send, send_error
from gpu_server.errors import ApiError
from gpu_server.exchange import Exchange
from gpu_server.relay import Relay, Scope
from gpu_server.routes import OPEN_PATHS, Route


class App:
    """Proxied routes by table, everything else to FastAPI."""

    def __init__(self, relay: Relay, control: FastAPI, routes: Mapping[str, Route], api_key: str) -> None:
        self._relay = relay
        self._control = control
        self._routes = routes
        self._key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; lifespan and websockets are switched off in the server."""
        path: str = scope["path"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if path not in OPEN_PATHS and not self._may_enter(headers):
            error = ApiError(
                401, "the API key is missing or wrong; send `Authorization: Bearer <key>`", "invalid_api_key"
            )
            await send_error(error, send, self._relay.load_headers() if path in self._routes else ())
            return
        route = self._routes.get(path)
        if route is None:
            await self._control(scope, receive, send)
        elif route.method != scope["method"]:
            error = ApiError(405, f"{path} takes {route.method} only", "method_not_allowed")
            await send_error(error, send, [(b"allow", route.method.encode())])
        else:
            await self._relay.serve(Exchange(route, path, headers), headers, receive, send, scope["state"]["client"])

    def _may_enter(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if not self._key:
            return True
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._key)
