"""One attempt at answering a request: LiteLLM's router picks a server, the request goes there as it came.

Stands where `Router._acompletion` stands, below the router's fallbacks and retries. What it does around the call is
what `litellm.utils.client` and that function do around theirs: they feed cooldown, least-busy, limits and logs.
"""

import asyncio
import traceback
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import orjson
from litellm.litellm_core_utils.core_helpers import (
    bind_budget_reservation_to_callbacks,
    unbind_budget_reservation_from_callbacks,
)
from litellm.litellm_core_utils.llm_response_utils.get_headers import get_response_headers
from starlette.datastructures import FormData

from corral_fast_path import coverage, upstream
from corral_fast_path.form import Form
from corral_fast_path.kinds import Body, Kind
from corral_fast_path.upstream import Answer
from corral_headers import for_server

PRICES = ("input_cost_per_token", "output_cost_per_token")


class Attempts:
    """The attempts at one request.

    Attributes:
        kind: of the request.
        sent: the body as the client sent it.
        log: LiteLLM's logging object of this request.
        answer: of the attempt that succeeded.
        deployment: which gave it.
        slot: what to close when the answer is through: the server's place among its parallel requests.
    """

    def __init__(self, kind: Kind, sent: Body, form: FormData | None, log: Any, router: Any) -> None:
        self.kind = kind
        self.sent = sent
        self._form = form
        self.log = log
        self.answer: Answer | None = None
        self.deployment: Mapping[str, Any] = {}
        self.slot = AsyncExitStack()
        self._router = router

    @property
    def streamed(self) -> bool:
        """Whether the client has asked for a stream."""
        return self.sent.get("stream") is True

    @property
    def run(self) -> Any:
        """The function to give to LiteLLM's router; by its name the router knows where the request's metadata is."""
        return self.call if self.kind.metadata == "metadata" else self.generic_api_call

    async def generic_api_call(self, model: str, **request: Any) -> Answer:
        """See `call`."""
        return await self.call(model, **request)

    async def call(self, model: str, **request: Any) -> Answer:
        """Choose a server for the model and ask it. LiteLLM's router calls this, again for each retry and fallback.

        Raises:
            Exception: one of LiteLLM's, if the server fails or none is left.
            asyncio.CancelledError: if the client has gone.
        """
        specific = request.pop("specific_deployment", None)
        deployment = await self._router.async_get_available_deployment(
            model=model, specific_deployment=specific, request_kwargs=request, **self.kind.for_routing(request)
        )
        self._router._update_kwargs_with_deployment(
            deployment=deployment, kwargs=request, function_name=self.run.__name__
        )
        name = deployment["litellm_params"]["model"]
        self._router.total_calls[name] += 1
        try:
            answer = await self._ask(deployment, request)
        except BaseException as error:
            self._router.fail_calls[name] += 1
            if isinstance(error, Exception):
                self._router._set_deployment_num_retries_on_exception(error, deployment)
                self._router._stamp_failed_deployment_id_with_effective_model_info(error, deployment, request)
            raise
        self._router.success_calls[name] += 1
        self.answer, self.deployment = answer, deployment
        return answer

    async def _ask(self, deployment: Mapping[str, Any], request: dict[str, Any]) -> Answer:
        if not coverage.is_of_the_farm(deployment):
            raise RuntimeError(f"{deployment['model_name']} is no model of the farm, and was chosen for one")
        parameters = deployment["litellm_params"]
        provider, _, model = parameters["model"].partition("/")
        url = parameters["api_base"].rstrip("/") + self.kind.path
        self._begin(deployment, request, provider, model)
        called = False
        try:
            async with AsyncExitStack() as slot:
                await slot.enter_async_context(
                    self._router._deployment_slot(deployment=deployment, kwargs=request, parent_otel_span=None)
                )
                self.log.pre_call(
                    input=request.get(self.kind.prompt),
                    api_key="",
                    additional_args={"api_base": parameters["api_base"]},
                )
                called = True
                body = self._body(request, model)
                answer = await upstream.ask(
                    url,
                    body,
                    self._headers(parameters, request, body),
                    may_stream=bool(self.kind.end),
                    timeout_s=request.get("timeout"),
                )
                self.slot = slot.pop_all()
        except (Exception, asyncio.CancelledError) as error:
            failure = upstream.as_litellms(error, parameters["model"], provider, url)
            unbind_budget_reservation_from_callbacks(self.log.litellm_params)
            if called:
                await asyncio.shield(self.failed(failure))
            if isinstance(error, asyncio.CancelledError):
                raise
            raise failure from error
        answer.hidden.update(
            model_id=deployment["model_info"]["id"],
            api_base=parameters["api_base"],
            additional_headers=get_response_headers(dict(answer.headers)),
        )
        return answer

    async def failed(self, failure: Exception) -> None:
        """Tell LiteLLM that the server has failed: cooldown, least-busy, limits, metrics."""
        trace = "".join(traceback.format_exception(failure))
        self.log.failure_handler(failure, trace)  # in this order, as LiteLLM does: the cooldown is in the first
        await self.log.async_failure_handler(failure, trace)

    def _begin(self, deployment: Mapping[str, Any], request: dict[str, Any], provider: str, model: str) -> None:
        parameters, log = deployment["litellm_params"], self.log
        of_litellm = request.get(self.kind.metadata) or {}
        log.update_environment_variables(
            model=model,
            user=request.get("user"),
            optional_params={"stream": True} if self.streamed else {},
            custom_llm_provider=provider,
            litellm_params={
                "metadata": of_litellm,
                "model_info": request.get("model_info") or deployment["model_info"],
                "proxy_server_request": request.get("proxy_server_request"),
                "litellm_call_id": request.get("litellm_call_id"),
                "litellm_trace_id": request.get("litellm_trace_id"),
                "api_base": parameters["api_base"],
                "custom_llm_provider": provider,
                self.kind.call_type: True,
                "acompletion": True,  # by this one LiteLLM knows a call that is not blocking, of whatever kind
                **{price: parameters[price] for price in PRICES if parameters.get(price) is not None},
            },
        )
        for done in ("has_logged_async_failure", "has_logged_sync_failure"):
            log.model_call_details.pop(done, None)  # of the attempt before; else the second failure counts nowhere
        bind_budget_reservation_to_callbacks(log.litellm_params)

    def _body(self, request: Body, model: str) -> bytes | Form:
        if self._form is not None:
            return Form(self._form.multi_items(), model)
        body = {
            key: request.get(key, value) for key, value in self.sent.items() if key not in coverage.FOR_LITELLM
        }  # as LiteLLM's hooks have left it
        body["model"] = model
        if self.streamed and self.kind.closes_with_usage:
            body["stream_options"] = {**(self.sent.get("stream_options") or {}), "include_usage": True}
        return orjson.dumps(body)

    def _headers(self, parameters: Mapping[str, Any], request: Body, body: bytes | Form) -> dict[str, str]:
        headers = {"Content-Type": body.content_type if isinstance(body, Form) else "application/json"}
        headers |= for_server(request.get("litellm_call_id"), request.get(self.kind.metadata) or {})
        if parameters.get("api_key"):
            headers["Authorization"] = f"Bearer {parameters['api_key']}"
        return headers
