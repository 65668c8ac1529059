"""Counting a deployment's use against its limits: LiteLLM makes objects of a deployment to see that it has none.

And it copies one, to hide its key, for a message that is seldom written.
"""

from collections.abc import Mapping
from time import monotonic
from typing import Any

from litellm.router import Router
from litellm.router_utils.router_callbacks.track_deployment_metrics import (
    increment_deployment_successes_for_current_minute,
)

from corral_fast_path import coverage

FRESH_S = 10.0
"""For how long it is taken for granted that a deployment has no limits: prices and limits of models can be changed
while LiteLLM runs."""

_increment_of_litellm = Router._increment_deployment_usage
_shown_of_litellm = Router.print_deployment
_success_of_litellm = Router.deployment_callback_on_success
_unlimited: dict[tuple[int, str], tuple[float, Mapping[str, Any]]] = {}
"""By router and id: until when it is known, and of which deployment. Its size is that of the configuration."""


async def _increment(self: Any, *, deployment_id: str, **used: Any) -> Any:
    deployment = deployment_of(self, deployment_id)
    if deployment is not None and _is_unlimited(self, deployment_id, deployment):
        return None
    return await _increment_of_litellm(self, deployment_id=deployment_id, **used)


async def _success(self: Any, kwargs: Any, completion_response: Any, start_time: Any, end_time: Any) -> Any:
    parameters = kwargs.get("litellm_params") or {}
    name = (parameters.get("model_info") or {}).get("id")
    deployment = deployment_of(self, name) if isinstance(name, str) else None
    if (
        deployment is None
        or kwargs.get("standard_logging_object") is None
        or (parameters.get("metadata") or {}).get("model_group") is None
        or not _is_unlimited(self, str(name), deployment)
    ):
        return await _success_of_litellm(self, kwargs, completion_response, start_time, end_time)
    increment_deployment_successes_for_current_minute(litellm_router_instance=self, deployment_id=name)
    return None


class _Shown:
    """A deployment as a message shows it, once that is written."""

    def __init__(self, router: Any, deployment: Any) -> None:
        self._router = router
        self._deployment = deployment

    def __str__(self) -> str:
        return str(_shown_of_litellm(self._router, self._deployment))


def deployment_of(router: Any, name: str) -> Mapping[str, Any] | None:
    """Return a deployment of LiteLLM's router by its id, as it is configured; None if it is not known."""
    index = router.model_id_to_deployment_index_map.get(name)
    deployments = router.model_list
    found = deployments[index] if index is not None and index < len(deployments) else None
    return found if isinstance(found, dict) and (found.get("model_info") or {}).get("id") == name else None


def _is_unlimited(router: Any, name: str, deployment: Mapping[str, Any]) -> bool:
    known, now = _unlimited.get((id(router), name)), monotonic()
    if known is not None and known[1] is deployment and now < known[0]:
        return True
    if not coverage.is_of_the_farm(deployment) or _limited(router, name):
        return False
    _unlimited[id(router), name] = (now + FRESH_S, deployment)
    return True


def _limited(router: Any, name: str) -> bool:
    """As `Router._increment_deployment_usage` finds it."""
    made = router.get_deployment(model_id=name)
    places = (made, made.litellm_params, router.get_router_model_info(deployment=made, received_model_name=""))
    return any(one.get(limit) is not None for one in places for limit in ("tpm", "rpm", "itpm", "otpm"))


def install() -> None:
    """Put them in the place of LiteLLM's."""
    Router._increment_deployment_usage = _increment
    Router.print_deployment = lambda router, deployment: _Shown(router, deployment)
    Router.deployment_callback_on_success = _success
