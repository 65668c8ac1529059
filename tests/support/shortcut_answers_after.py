"""The rest of `shortcut_answers`: what LiteLLM does when an answer is through, asked both ways."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litellm.constants import INTERNAL_CALL_ORIGIN_METADATA_KEY
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.proxy import proxy_server
from litellm.proxy.hooks.parallel_request_limiter_v3 import _PROXY_MaxParallelRequestsHandler_v3

import litellm
from corral_fast_path.shortcuts import audience, costs, unused


def costs_of_answers() -> list[tuple[object, object]]:
    """Each answer three times: the first shows what LiteLLM bills, the next are billed without it."""
    prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 3e-6, "mode": "chat"}
    dearer_at_length = {"input_cost_per_token_above_128k_tokens": 2e-6}
    litellm.register_model(
        {
            "plain": {**prices, "litellm_provider": "hosted_vllm"},
            "with a price of cached tokens": {
                **prices, "cache_read_input_token_cost": 1e-7, "litellm_provider": "hosted_vllm",
            },
            "with tiers": {**prices, **dearer_at_length, "litellm_provider": "hosted_vllm"},
            "free": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "litellm_provider": "hosted_vllm"},
        }
    )  # fmt: skip
    usages: list[dict[str, Any]] = [
        {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer, **details}
        for prompt, answer in ((7, 3), (1413, 100), (200_000, 1), (0, 0))
        for details in ({}, {"prompt_tokens_details": {"cached_tokens": prompt // 2}}, {"reasoning_tokens": answer})
    ]
    said: tuple[dict[str, Any], ...] = ({}, {"annotations": [{"type": "url_citation"}]})
    return [
        (_billed(costs._of_litellm, *asked), _billed(costs._cost, *asked))
        for name in ("plain", "with a price of cached tokens", "with tiers", "free", "unknown")
        for usage in usages
        for message in said
        for asked in ((name, usage, message),) * 3
    ]


def _billed(price: Any, name: str, usage: Mapping[str, Any], message: Mapping[str, Any]) -> object:
    log = Logging(
        model="chat", messages=[], stream=False, call_type="acompletion", start_time=datetime.now(UTC),
        litellm_call_id="a", function_id="",
    )  # fmt: skip
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "?", **message}}
    answer = litellm.ModelResponse(model="chat", usage=litellm.Usage(**usage), choices=[choice])
    try:
        cost = price(
            completion_response=answer, model="chat", call_type="acompletion", custom_llm_provider="hosted_vllm",
            optional_params={}, custom_pricing=True, router_model_id=name, litellm_logging_obj=log,
        )  # fmt: skip
    except Exception as error:  # errors are answers too
        return repr(error)
    return cost, log.cost_breakdown, log.billed_token_rates


def tool_names() -> list[tuple[object, object]]:
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages: tuple[dict[str, Any], ...] = ({"content": "?"}, {"content": None, "tool_calls": [call, call]})
    choices = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **one}} for one in messages]
    usage = litellm.Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    function_call = [{"type": "function_call", "name": "look", "arguments": "{}", "call_id": "a"}]
    asked: list[object] = [
        litellm.ModelResponse(choices=choices[:1], usage=usage), litellm.ModelResponse(choices=choices, usage=usage),
        litellm.ModelResponse(choices=choices[:1], output=function_call), litellm.ModelResponse(choices=[]),
        litellm.EmbeddingResponse(usage=usage, data=[]), {"choices": choices}, {"output": function_call}, None,
    ]  # fmt: skip
    return [(unused._tool_names_of_litellm(one), unused._tool_names(one)) for one in asked]


def limits_of_a_model() -> list[tuple[object, object]]:
    limiter = _PROXY_MaxParallelRequestsHandler_v3(proxy_server.proxy_logging_obj.internal_usage_cache)
    settings: list[dict[str, Any]] = [
        {}, {"user_api_key_metadata": {"model_tpm_limit": {"chat": 5}}}, {"user_api_key_metadata": {"a": "b"}},
        {"user_api_key_model_max_budget": {"chat": {"tpm_limit": 5}}},
    ]  # fmt: skip
    models = (None, limiter._rate_limited_model("chat"))
    return [
        (unused._owns_of_litellm(limiter, one, model), unused._owns(limiter, one, model))
        for one in settings
        for model in models
    ]


def internal_calls() -> list[tuple[object, object]]:
    rows = [
        "{}",
        "no JSON",
        "[]",
        *(f'{{"{INTERNAL_CALL_ORIGIN_METADATA_KEY}": {value}}}' for value in ("null", '""', '"a"', '{"a":1}')),
    ]
    return [(unused._is_internal_of_litellm(row), unused._is_internal(row)) for row in rows]


class Deaf(CustomLogger):
    """Does nothing of an answer."""


class Hearing(CustomLogger):
    async def async_log_success_event(self, *told: Any) -> None:
        """Hear it."""


class Masking(CustomLogger):
    async def async_logging_hook(self, kwargs: Any, result: Any, call_type: str) -> tuple[Any, Any]:
        return kwargs, result


def who_is_told_of_answers() -> dict[str, bool]:
    patched = Deaf()
    patched.async_log_success_event = print
    listeners: dict[str, Any] = {
        "deaf": Deaf(), "may not have texts": Deaf(message_logging=False), "hearing": Hearing(), "masking": Masking(),
        "patched": patched, "a name": "otel", "a function": print,
    }  # fmt: skip
    log = Logging(
        model="chat", messages=[], stream=False, call_type="acompletion", start_time=datetime.now(UTC),
        litellm_call_id="a", function_id="",
    )  # fmt: skip
    litellm._async_success_callback, before = list(listeners.values()), litellm._async_success_callback
    try:
        told = audience._listeners(log, None, litellm._async_success_callback)
        assert audience._listeners(log, None, list(listeners.values())) == list(listeners.values())
    finally:
        litellm._async_success_callback = before
    return {name: any(listener is one for one in told) for name, listener in listeners.items()}


def payloads_of_listeners() -> list[tuple[object, object]]:
    pairs: list[tuple[object, object]] = []
    details = {"standard_logging_object": {"messages": [{"role": "user", "content": "?"}], "id": "a"}, "model": "chat"}
    for excluded in (None, ["messages"]):
        litellm.standard_logging_payload_excluded_fields = excluded
        pairs += [
            (audience._redacted_of_litellm(listener, details), audience._redacted(listener, details))
            for listener in (Deaf(), Deaf(turn_off_message_logging=True))
        ]
    litellm.standard_logging_payload_excluded_fields = None
    return pairs
