"""What LiteLLM asks on every request although it is known.

Whether a route of ours is one of administration; and whom to tell that its own services work, where nobody listens.
"""

from typing import Any

from litellm._service_logger import ServiceLogging
from litellm.proxy.auth.route_checks import RouteChecks

import litellm
from corral_fast_path.kinds import KINDS

_ROUTES = frozenset(path for kind in KINDS for path in (kind.path, f"/v1{kind.path}"))

_is_management_of_litellm = RouteChecks.is_management_route
_service_success_of_litellm = ServiceLogging.async_service_success_hook


def _is_management(route: str) -> bool:
    return route not in _ROUTES and bool(_is_management_of_litellm(route))


async def _service_success(self: Any, *told: Any, **named: Any) -> None:
    if litellm.service_callback or self.mock_testing:
        await _service_success_of_litellm(self, *told, **named)


def install() -> None:
    """Put them in the place of LiteLLM's."""
    RouteChecks.is_management_route = staticmethod(_is_management)
    ServiceLogging.async_service_success_hook = _service_success
