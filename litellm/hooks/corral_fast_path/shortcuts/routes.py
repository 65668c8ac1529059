"""What LiteLLM asks on every request although it is known.

The route of a request of ours, for which it puts an address together and takes it apart again; whether that is one of
administration, or belongs to a part of LiteLLM that is not loaded yet; and whom to tell that its own services work,
where nobody listens.
"""

from typing import Any

from litellm._service_logger import ServiceLogging
from litellm.proxy import common_request_processing
from litellm.proxy._lazy_features import LAZY_FEATURES, LazyFeatureMiddleware
from litellm.proxy.auth import auth_utils
from litellm.proxy.auth.route_checks import RouteChecks
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

import litellm
from corral_fast_path.kinds import KINDS

_ROUTES = frozenset(path for kind in KINDS for path in (kind.path, f"/v1{kind.path}"))

_LOADED = frozenset(path for path in _ROUTES if not any(feature.matches(path) for feature in LAZY_FEATURES))

_look_for_features_of_litellm = LazyFeatureMiddleware.__call__
_route_of_litellm = auth_utils.get_request_route
_is_management_of_litellm = RouteChecks.is_management_route
_service_success_of_litellm = ServiceLogging.async_service_success_hook


def _route(request: Request) -> str:
    scope = request.scope
    if isinstance(scope, dict) and not scope.get("root_path") and not scope.get("app_root_path"):
        path = scope.get("path")
        if path in _ROUTES:
            return str(path)
    return str(_route_of_litellm(request))


def _is_management(route: str) -> bool:
    return route not in _ROUTES and bool(_is_management_of_litellm(route))


async def _service_success(self: Any, *told: Any, **named: Any) -> None:
    if litellm.service_callback or self.mock_testing:
        await _service_success_of_litellm(self, *told, **named)


async def _look_for_features(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
    if scope.get("path") in _LOADED:
        await self.app(scope, receive, send)
    else:
        await _look_for_features_of_litellm(self, scope, receive, send)


def install() -> None:
    """Put them in the place of LiteLLM's."""
    LazyFeatureMiddleware.__call__ = _look_for_features
    auth_utils.get_request_route = common_request_processing.get_request_route = _route
    RouteChecks.is_management_route = staticmethod(_is_management)
    ServiceLogging.async_service_success_hook = _service_success
