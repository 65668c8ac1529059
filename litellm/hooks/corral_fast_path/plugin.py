"""Puts the fast path's endpoints before LiteLLM's own routes."""

import gc
import logging
import os
import sys
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from corral_fast_path import bypass, guard, metrics
from corral_fast_path.kinds import KINDS

SWITCH = "CORRAL_FAST_PATH"
_SENT_ON = "corral_fast_path.sent_on"

log = logging.getLogger("corral.fast_path")


class FastPath(CustomLogger):  # type: ignore[misc]  # LiteLLM is not followed
    """Does nothing as a callback; being loaded as one is what puts the endpoints in place."""

    def load(self) -> None:
        """Put the endpoints in place if LiteLLM's proxy runs here, is as expected, and nobody has switched them off."""
        proxy = sys.modules.get("litellm.proxy.proxy_server")
        if proxy is None:  # in a test, or where LiteLLM is used as a library
            return
        metrics.active(yes=False)
        switch = os.environ.get(SWITCH, "on").lower()
        if switch == "off":
            log.warning("the fast path is off (%s=off): all requests go LiteLLM's own way", SWITCH)
        elif switch != "on":
            log.error("%s is %r, and must be on or off: all requests go LiteLLM's own way", SWITCH, switch)
        elif found := list(guard.differences()):
            log.error("the fast path does not fit this LiteLLM, all requests go its own way: %s", "; ".join(found))
        else:
            install(proxy.app)
            _let_the_collector_rest()
            metrics.active(yes=True)


def install(app: Any) -> None:
    """Put the endpoints before the routes of an application (Starlette's), and have LiteLLM go shorter ways."""
    from corral_fast_path import shortcuts  # only now: they need the internals that were looked at
    from corral_fast_path.endpoint import Endpoint

    shortcuts.install()

    bypass.install(app)
    for kind in reversed(KINDS):  # what is asked for most is looked at first
        endpoint = Endpoint(kind, _past_us(app.router))
        for path in (kind.path, f"/v1{kind.path}"):
            app.router.routes.insert(0, _Door(path, endpoint=endpoint, methods=["POST"]))


def _let_the_collector_rest() -> None:
    """Look for garbage less often: a look at everything takes 50 ms and more, in which no token goes out.

    Nearly all that a request makes is freed without it. LiteLLM's own setting has the say. On one machine what has been
    loaded before is left out, too (`litellm_embedded.launcher`).
    """
    if not os.environ.get("PYTHON_GC_THRESHOLD"):
        gc.set_threshold(10_000, 20, 50)


class _Door(Route):
    """A route that a request finds closed when the fast path has sent it on."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = (Match.NONE, {}) if _SENT_ON in scope else super().matches(scope)
        return (match, child) if match is Match.FULL else (Match.NONE, {})  # other methods are LiteLLM's to refuse


def _past_us(router: ASGIApp) -> ASGIApp:
    """Return the application's routes as they are without ours."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        scope[_SENT_ON] = True
        await router(scope, receive, send)

    return handle
