"""What the fast path takes on. Everything else goes LiteLLM's own way, in the same process, on the same port."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy.utils import ProxyLogging
from litellm.types.utils import is_litellm_owned_kwarg

import litellm
from corral_fast_path.kinds import Body, Kind

PROVIDER = "hosted_vllm/"
"""The dialect that the rendered configuration gives to servers of the farm."""

FOR_LITELLM = frozenset({"metadata", "litellm_metadata", "tags"})
"""Keys of a body that LiteLLM reads, on either path, and no server does."""

_STEERS_LITELLM = frozenset(
    {
        "additional_drop_params",
        "background",
        "base_url",
        "content_policy_fallbacks",
        "context_window_fallbacks",
        "disable_fallbacks",
        "drop_params",
        "extra_body",
        "extra_headers",
        "fallbacks",
        "include_fallback_errors",
        "include_guardrail_response",
        "priority",
        "prompt_id",
        "specific_deployment",
        "timeout",
        "user_config",
    }
)
"""Keys of a body that ask LiteLLM for something it does around a call of its own, beside those it says are its."""

LONGEST_KEPT = 64
"""Characters of a key that is remembered: clients choose them, before they have shown who they are."""

_KNOWN_PARAMETERS = frozenset(
    {
        "api_base",
        "api_key",
        "input_cost_per_token",
        "max_parallel_requests",
        "max_retries",
        "model",
        "num_retries",
        "output_cost_per_token",
        "rpm",
        "stream_timeout",
        "timeout",
        "tpm",
    }
)
"""Parameters of a deployment that the relay heeds, or that LiteLLM's router does by itself."""

_AFTER_THE_CALL = (
    "async_post_call_success_hook",
    "async_post_call_streaming_hook",
    "async_post_call_streaming_iterator_hook",
    "async_pre_call_deployment_hook",
    "async_post_call_success_deployment_hook",
)
"""Hooks that may change, hold or refuse what the relay passes on unread."""

_OBSERVERS = ("litellm.proxy.hooks.", "litellm.integrations.", "litellm.router", "litellm._", "corral_")
"""Where LiteLLM's own hooks live, and ours. Those observe an answer, and count; the relay lets them. What
`corral_headers` does before a call, the relay does itself."""


_TEXTLESS = (
    "litellm.proxy.", "litellm.router", "litellm._", "litellm.integrations.prometheus",
    "litellm.integrations.shadow_eval_logger", "corral_",
)  # fmt: skip
"""Where those live that log answers without their text. Shadow evaluation, which LiteLLM always loads, wants it of some
requests, and takes note of one that has none."""


def is_of_the_farm(deployment: Mapping[str, Any]) -> bool:
    """Say whether a deployment is a server that takes requests as they are, and asks for nothing else."""
    parameters = deployment["litellm_params"]
    model, api_base = parameters.get("model"), parameters.get("api_base")
    return (
        isinstance(model, str)
        and model.startswith(PROVIDER)
        and isinstance(api_base, str)
        and all(name in _KNOWN_PARAMETERS or not value for name, value in parameters.items())
    )


def why_not(kind: Kind, body: Body, router: Any) -> str | None:
    """Return why a request must go LiteLLM's own way; None if the fast path can take it.

    Args:
        kind: of the request.
        body: as LiteLLM has parsed it.
        router: LiteLLM's; None as long as it has no configuration.
    """
    if router is None:
        return "no models"
    if litellm.cache is not None:
        return "response cache"
    if litellm.max_budget:
        return "budget of the whole gate"  # checked in LiteLLM's own call
    if hook := _hook_after_the_call():
        return hook
    if not kind.takes(body) or body.get("stream") not in (None, True, False):
        return "body"  # LiteLLM says what is wrong with it
    if body.get("stream") and not kind.end:
        return "body"
    if steering(body):
        return "parameter of LiteLLM"
    return why_not_model(body.get("model"), router)


def why_not_model(model: Any, router: Any) -> str | None:
    """Return why a model is not the fast path's; None if it is, with all that it may fall back to."""
    if not isinstance(model, str):
        return "model"
    names, seen = [model], set[str]()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        group = router.get_model_from_alias(model=name) or name
        deployments = router.get_model_list(model_name=group) if group in router.model_names else None
        if not deployments or not all(map(is_of_the_farm, deployments)):
            return "model" if name == model else "fallback"
        names += _fallbacks(name, router)
    return None


def steering(body: Body) -> bool:
    """Say whether a body asks LiteLLM itself for something, beside being logged."""
    return any(_known_to_steer(key) if len(key) <= LONGEST_KEPT else _steers(key) for key in body)


def _steers(key: str) -> bool:
    steers = key in _STEERS_LITELLM or is_litellm_owned_kwarg(key) or key.startswith(("_", "mock_"))
    return steers and key not in FOR_LITELLM


_known_to_steer = lru_cache(maxsize=1000)(_steers)


def is_traced(general_settings: Mapping[str, Any], metadata: Body) -> bool:
    """Say whether anything that logs answers may want the text of this one, so that it must be kept.

    Args:
        general_settings: LiteLLM's.
        metadata: what LiteLLM keeps of the request; a listener that has `wants_text` is asked with it.
    """
    if general_settings.get("store_prompts_in_spend_logs"):
        return True
    wanted, asked = _wishes((*litellm.callbacks, *litellm.success_callback, *litellm._async_success_callback))
    return wanted or any(wants_text(metadata) for wants_text in asked)


@lru_cache(maxsize=8)
def _wishes(listeners: tuple[Any, ...]) -> tuple[bool, tuple[Callable[[Body], bool], ...]]:
    """Return whether any of these may want the text of every answer, and who says it of each."""
    asked = {one: getattr(one, "wants_text", None) for one in listeners if not isinstance(one, str)}
    wanted = any(_may_want_text(one) for one in listeners if asked.get(one) is None)
    return wanted, tuple(wants_text for wants_text in asked.values() if wants_text is not None)


def _may_want_text(listener: Any) -> bool:
    if isinstance(listener, str):  # a callback's name, as it was configured
        return listener != "prometheus" and not listener.startswith("corral_")
    module = type(listener).__module__ if isinstance(listener, CustomLogger) else getattr(listener, "__module__", "")
    return not str(module).startswith(_TEXTLESS)


def _hook_after_the_call() -> str | None:
    able = ProxyLogging.callback_capabilities()
    if able.has_guardrail or able.has_moderation_override:
        return "guardrail"
    for hook in able.resolved_callbacks:
        if not type(hook).__module__.startswith(_OBSERVERS) and any(map(_overridden(hook), _AFTER_THE_CALL)):
            return "hook after the call"
    return None


def _overridden(hook: CustomLogger) -> Any:
    return lambda name: getattr(type(hook), name, None) is not getattr(CustomLogger, name, None)


def _fallbacks(model: str, router: Any) -> Iterable[str]:
    for configured in (router.fallbacks, router.context_window_fallbacks, router.content_policy_fallbacks):
        for entry in configured or ():
            for name, targets in entry.items():
                if name in (model, "*", router.get_model_from_alias(model=model)):
                    yield from (target if isinstance(target, str) else "" for target in targets)
