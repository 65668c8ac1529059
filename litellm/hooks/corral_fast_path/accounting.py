"""What LiteLLM is told when an answer is through: one row of spend, whatever became of the request."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from litellm.litellm_core_utils.core_helpers import unbind_budget_reservation_from_callbacks
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.proxy.common_request_processing import _record_streaming_client_disconnect_if_needed
from litellm.proxy.utils import ProxyLogging

import litellm
from corral_fast_path.attempt import Attempts
from corral_fast_path.logged_answer import logged_answer
from corral_fast_path.tokens import Tokens
from corral_fast_path.upstream import BrokenOffError, DepartedError


class Account:
    """The bookkeeping of one request that LiteLLM has let in.

    Exactly one of `settle`, `broken_off`, `departed` and `refused` ends it.
    """

    def __init__(self, proxy: Any, user: Any, request: dict[str, Any], attempts: Attempts) -> None:
        self._proxy = proxy
        self._user = user
        self._request = request
        self._attempts = attempts
        self._log = attempts.log

    def first_byte(self) -> None:
        """Note when the answer began: LiteLLM's time to the first token."""
        self._log.completion_start_time = self._log.model_call_details["completion_start_time"] = datetime.now()  # noqa: DTZ005  # LiteLLM's times have no zone

    def result(self, tokens: Tokens, events: int, documents: Sequence[Mapping[str, Any]]) -> Any:
        """Return the answer as LiteLLM logs answers.

        Args:
            tokens: what the server has said of them; else they are estimated.
            events: that went through, if it was a stream.
            documents: the JSON of the answer, or of the events of its stream, where it is wanted for tracing.
        """
        usage = self._usage(tokens, events)
        name = tokens.answer_id or self._log.litellm_call_id
        result = logged_answer(self._attempts.kind, name, self._log.model, usage, documents)
        result._hidden_params = self._attempts.answer.hidden if self._attempts.answer else {}
        return result

    async def settle(self, result: Any, *, whole: bool = True) -> None:
        """Log an answer that came to its end, or one that its client left."""
        await self.release()
        if not whole:
            await _record_streaming_client_disconnect_if_needed(None, self._request, client_disconnected=True)
        # The rest waits in LiteLLM's queue, as after its own calls: row, budgets, tpm, least-busy, metrics, traces.
        GLOBAL_LOGGING_WORKER.ensure_initialized_and_enqueue(
            async_coroutine=self._log.dispatch_success_handlers(
                result, cache_hit=False, start_time=None, end_time=None, prefer_async_handlers=True
            )
        )

    async def broken_off(self, result: Any, failure: BrokenOffError) -> None:
        """Log a stream that its server has not ended; what came of it is billed."""
        await self.release()
        unbind_budget_reservation_from_callbacks(self._log.litellm_params)
        cost = self._log.response_cost_calculator(result=result) or 0.0
        self._log.record_partial_usage_for_failure(result.usage, cost)
        await self._attempts.failed(failure)
        await self._fail(failure)

    async def departed(self) -> None:
        """Log a request whose client left before the first byte."""
        await self.release()
        await self._fail(DepartedError("the client has gone before the first byte"))

    async def release(self) -> None:
        """Free the request's place among the parallel requests of its key, team and user; twice does no harm.

        LiteLLM frees it with the logging, which waits in a queue: a client that asks again at once would be refused.
        """
        await self._attempts.slot.aclose()
        for hook in ProxyLogging.callback_capabilities().resolved_callbacks:
            if (over := getattr(hook, "request_over", None)) is not None:  # the routing's: the slot is free
                over(self._log.litellm_call_id)
        await self._proxy.proxy_logging_obj.arelease_max_parallel_requests_on_disconnect(self._user)

    async def _fail(self, failure: Exception) -> None:
        await self._proxy.proxy_logging_obj.post_call_failure_hook(
            user_api_key_dict=self._user, original_exception=failure, request_data=self._request
        )

    def _usage(self, tokens: Tokens, events: int) -> dict[str, Any]:
        prompt, answer = tokens.prompt, tokens.answer
        if prompt is None:
            prompt = self._estimated_prompt()
        if answer is None:
            answer = max(0, events - 1)  # llama-server sends an event for each token, and one before the first
        details = {"prompt_tokens_details": {"cached_tokens": tokens.cached}} if tokens.cached is not None else {}
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer, **details}

    def _estimated_prompt(self) -> int:
        prompt = self._request.get(self._attempts.kind.prompt)
        try:
            if isinstance(prompt, list) and all(isinstance(one, dict) for one in prompt):
                return int(litellm.token_counter(model="", messages=prompt))
            return int(litellm.token_counter(model="", text=prompt))
        except Exception:  # noqa: BLE001  # whatever LiteLLM's tokenizer makes of it, the row must be written
            return 0


async def shielded(work: Any) -> None:
    """Finish `work` whatever happens to the request: rows and limits must be right when a client or the gate goes."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
