"""What a request has not used: LiteLLM's auto-router, calls of its own, tools, limits of a key for one model; no error.

LiteLLM makes objects of what it logs, of the row's JSON and of the key to find that nothing of it is there. Whether
there are shadow evaluations it asks its database every 10 s, but then once for each answer that ends meanwhile.
"""

import asyncio
import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from litellm.constants import INTERNAL_CALL_ORIGIN_METADATA_KEY
from litellm.integrations.shadow_eval_logger import _JOBS_CACHE_KEY, ShadowEvalLogger
from litellm.litellm_core_utils import litellm_logging
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.db import model_usage_rollup, spend_log_tool_index
from litellm.proxy.db.db_spend_update_writer import DBSpendUpdateWriter
from litellm.proxy.hooks.parallel_request_limiter_v3 import _PROXY_MaxParallelRequestsHandler_v3

import litellm

_DECISION = "routing_decision"
_DECIDED = re.compile(rf'"{_DECISION}":\s*{{')
_CALLED = re.compile(rf'"{INTERNAL_CALL_ORIGIN_METADATA_KEY}":\s*[^\sn]')
"""Anything but null."""
_OF_OTHER_ANSWERS = ("output", "content")
"""Where answers have calls of tools that are no chat's."""
_NO_LIMITS = UserAPIKeyAuth(metadata={}, model_max_budget={})

_savings_of_litellm = litellm_logging._autorouter_savings_for_payload
_turn_of_litellm = DBSpendUpdateWriter._enqueue_autorouter_turn_transaction
_is_internal_of_litellm = model_usage_rollup._is_internal_call
_tool_names_of_litellm = spend_log_tool_index.response_tool_call_names
_evaluations_of_litellm = ShadowEvalLogger._active_jobs
_asking: WeakKeyDictionary[ShadowEvalLogger, asyncio.Task[Mapping[Any, Any]]] = WeakKeyDictionary()
"""Who is asking for evaluations."""
_error_of_litellm = litellm_logging.StandardLoggingPayloadSetup.get_error_information
_owns_of_litellm = _PROXY_MaxParallelRequestsHandler_v3._key_owns_model_tpm_limit_from_request_metadata


def _savings(**asked: Any) -> float | None:
    found: float | None = _savings_of_litellm(**asked) if asked["request_metadata"].get(_DECISION) else None
    return found


async def _turn(self: Any, payload: Any, prisma_client: Any, spend_logs_kept: bool = True) -> None:  # LiteLLM's
    metadata = payload.get("metadata")
    if not isinstance(metadata, str) or _DECIDED.search(metadata):
        await _turn_of_litellm(self, payload, prisma_client, spend_logs_kept)


def _is_internal(metadata: str) -> bool:
    return _CALLED.search(metadata) is not None and bool(_is_internal_of_litellm(metadata))


def _tool_names(completion_response: Any) -> tuple[str, ...]:
    if (
        type(completion_response) is litellm.ModelResponse
        and not any(getattr(choice.message, "tool_calls", None) for choice in completion_response.choices)
        and not any(hasattr(completion_response, name) for name in _OF_OTHER_ANSWERS)
    ):
        return ()
    found: tuple[str, ...] = _tool_names_of_litellm(completion_response)
    return found


def _owns(self: Any, request_metadata: Any, model: Any) -> bool:
    if request_metadata.get("user_api_key_metadata") or request_metadata.get("user_api_key_model_max_budget"):
        return bool(_owns_of_litellm(self, request_metadata, model))
    return model is not None and bool(self._key_owns_model_limit(_NO_LIMITS, model, "model_tpm_limit"))


async def _evaluations(self: Any) -> Mapping[Any, Any]:
    found: Mapping[Any, Any] | None = await self._jobs_cache.async_get_cache(_JOBS_CACHE_KEY)
    if found is not None:
        return found
    asking = _asking.get(self)
    if asking is None or asking.done():
        asking = _asking[self] = asyncio.create_task(_evaluations_of_litellm(self))
    return await asyncio.shield(asking)  # who asks with others must not end the question for them


def _error(original_exception: Exception | None, traceback_str: str | None = None) -> dict[str, Any]:
    if original_exception is None and not traceback_str:
        return {**_no_error()}
    return {**_error_of_litellm(original_exception, traceback_str)}


@cache
def _no_error() -> dict[str, Any]:
    return {**_error_of_litellm(None)}


def install() -> None:
    """Put them in the place of LiteLLM's."""
    litellm_logging._autorouter_savings_for_payload = _savings
    DBSpendUpdateWriter._enqueue_autorouter_turn_transaction = _turn
    model_usage_rollup._is_internal_call = _is_internal
    spend_log_tool_index.response_tool_call_names = _tool_names
    ShadowEvalLogger._active_jobs = _evaluations
    litellm_logging.StandardLoggingPayloadSetup.get_error_information = staticmethod(_error)
    _PROXY_MaxParallelRequestsHandler_v3._key_owns_model_tpm_limit_from_request_metadata = _owns
