"""Two pages on the proxy: `/corral/routing`, what the router believes (admin key), and `/corral/metrics` (any key).

Both tell what one worker knows: the one that got the request.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Response
from litellm.proxy._types import LitellmUserRoles
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

DOCUMENT = "/corral/routing"
METRICS = "/corral/metrics"


def add_pages(app: FastAPI, document: Callable[[], dict[str, Any]], metrics: Callable[[], tuple[bytes, str]]) -> None:
    """Put the pages before LiteLLM's own routes, of which the last takes every path."""

    async def routing(user: Annotated[Any, Depends(user_api_key_auth)]) -> dict[str, Any]:
        """Tell what the router believes of each server."""
        if user.user_role != LitellmUserRoles.PROXY_ADMIN:
            raise HTTPException(403, f"{DOCUMENT} is for administrators: use the master key")
        return document()

    async def scraped(_user: Annotated[Any, Depends(user_api_key_auth)]) -> Response:
        """Give the router's metrics in Prometheus's text format; as LiteLLM's own `/metrics`, to keys that may ask."""
        text, kind = metrics()
        return Response(text, headers={"content-type": kind})

    for path, page in ((DOCUMENT, routing), (METRICS, scraped)):
        app.add_api_route(path, page, methods=["GET"], include_in_schema=False)
        app.router.routes.insert(0, app.router.routes.pop())
