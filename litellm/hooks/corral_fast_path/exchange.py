"""One request on the fast path: LiteLLM decides, the bytes go through.

It calls what LiteLLM's own routes call: authentication, the work before a call, the router, the headers, the hooks
after it. What is not called is what turns an answer into objects and back.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from litellm.proxy import proxy_server
from litellm.proxy._types import ProxyException, SpecialHeaders
from litellm.proxy.anthropic_endpoints.endpoints import _anthropic_error_json_response
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
from litellm.proxy.common_request_processing import ProxyBaseLLMRequestProcessing
from litellm.proxy.common_utils.http_parsing_utils import read_request_body
from litellm.proxy.route_llm_request import _raise_if_model_fully_blocked
from starlette.requests import Request
from starlette.types import Send

from corral_fast_path import coverage, recognition, stock
from corral_fast_path.accounting import Account, shielded
from corral_fast_path.attempt import Attempts
from corral_fast_path.bypass import past_middlewares
from corral_fast_path.departure import Departure
from corral_fast_path.events import EventStream
from corral_fast_path.kinds import Body, Kind
from corral_fast_path.relay import End, relay, send_whole
from corral_fast_path.tokens import Tokens
from corral_fast_path.upstream import Answer, BrokenOffError, ServerError

_NOT_PASSED_ON = frozenset({"connection", "content-length", "content-type", "date", "server", "transfer-encoding"})


class Exchange:
    """A request from its arrival to its row of spend."""

    def __init__(self, kind: Kind, request: Request, send: Send) -> None:
        self._kind = kind
        self._request = request
        self._send = send
        self._user: Any = None
        self._processing = ProxyBaseLLMRequestProcessing(data={})
        self._account: Account | None = None

    async def run(self) -> None:
        """Answer the request.

        Raises:
            ProxyException, HTTPException: what LiteLLM's exception handlers make an error of.
        """
        body = await read_request_body(request=self._request)
        self._user = await _authenticate(self._kind, self._request, body)
        self._processing = ProxyBaseLLMRequestProcessing(data=_with_user(self._kind, body, self._user))
        departure = Departure(self._request.receive)
        try:
            try:
                attempts = await self._ask(body, departure)
            except Exception as error:  # noqa: BLE001  # LiteLLM makes its own errors of all of them
                departure.stop()
                await self._refuse(error)
                return
            if attempts is None or attempts.answer is None:
                return
            account = Account(proxy_server, self._user, self._processing.data, attempts)
            account.first_byte()
            if attempts.answer.document is None:
                await self._stream(attempts, attempts.answer, account, departure)
            else:
                await self._whole(attempts, attempts.answer, attempts.answer.document, account)
        finally:
            departure.stop()

    async def _ask(self, body: Body, departure: Departure) -> Attempts | None:
        """Do what comes before the first byte. None if there is nothing left to do."""
        router = proxy_server.llm_router
        data, log = await self._admit(router)
        if reason := stock.needed(data, self._user, router):
            departure.stop()
            await stock.go_on(reason, self._kind, self._processing, self._user, self._request, self._send)
            return None
        _raise_if_model_fully_blocked(router, data["model"], self._user.team_id)
        form = await self._request.form() if self._kind.is_form else None  # read long since
        attempts = Attempts(self._kind, body, form, log, router)
        request = {**data, "original_function": attempts.run}
        router._update_kwargs_before_fallbacks(
            model=data["model"], kwargs=request, metadata_variable_name=self._kind.metadata
        )
        # In a task of its own, to end it and nothing else when the client goes.
        calling = asyncio.create_task(router.async_function_with_fallbacks(**request))
        departure.then(calling.cancel)
        try:
            await calling
        except asyncio.CancelledError:
            await shielded(Account(proxy_server, self._user, self._processing.data, attempts).departed())
            if not departure.happened:
                raise
            return None
        finally:
            departure.then(None)
        return attempts

    async def _admit(self, router: Any) -> tuple[dict[str, Any], Any]:
        """Let LiteLLM resolve aliases, enforce limits and budgets, and begin its log."""
        admitted: tuple[dict[str, Any], Any] = await self._processing._pre_call_with_fallbacks(
            request=self._request,
            general_settings=proxy_server.general_settings,
            proxy_logging_obj=proxy_server.proxy_logging_obj,
            user_api_key_dict=self._user,
            version=proxy_server.version,
            proxy_config=proxy_server.proxy_config,
            user_model=proxy_server.user_model,
            user_temperature=proxy_server.user_temperature,
            user_request_timeout=proxy_server.user_request_timeout,
            user_max_tokens=proxy_server.user_max_tokens,
            user_api_base=proxy_server.user_api_base,
            model=None,
            route_type=self._kind.call_type,
            llm_router=router,
        )
        return admitted

    async def _refuse(self, error: Exception) -> None:
        """Log a request that got no answer, and say why: a server's own error as it is, else LiteLLM's."""
        try:
            await self._processing._handle_llm_api_exception(
                e=error,
                user_api_key_dict=self._user,
                proxy_logging_obj=proxy_server.proxy_logging_obj,
                version=proxy_server.version,
            )
        except ProxyException as refusal:
            said = error.__cause__
            if not isinstance(said, ServerError) or said.status < 400:
                if self._kind.call_type != "anthropic_messages":
                    raise
                await _anthropic_error_json_response(refusal, self._request)(
                    self._request.scope, self._request.receive, self._send
                )
                return
            headers = {**(refusal.headers or {}), **_kept(said.headers, "retry-after")}
            kind = said.headers.get("Content-Type", "application/json")
            await send_whole(said.status, said.body, _encoded(headers, kind), self._send)

    async def _stream(self, attempts: Attempts, answer: Answer, account: Account, departure: Departure) -> None:
        hidden = self._kind.closes_with_usage and not _asks_for_usage(attempts.sent)
        stream = EventStream(end=self._kind.end, hide_usage=hidden, keep=self._is_traced())
        end, reason = End.DEPARTED, ""
        try:
            headers = await self._headers(answer, attempts.log, answer)
            headers |= {"cache-control": "no-cache", "x-accel-buffering": "no"}
            encoded = _encoded(headers, answer.content_type)
            middle = past_middlewares(self._request.scope, self._send)
            end, reason = await relay(
                answer, stream, encoded, self._send, middle, departure, account.release, self._kind.cut_off
            )
        finally:
            answer.close()
            result = account.result(stream.tokens, stream.events, list(stream.kept()))
            if end is End.BROKEN_OFF:
                await shielded(account.broken_off(result, BrokenOffError(f"the server broke off: {reason}")))
            else:
                await shielded(account.settle(result, whole=end is End.WHOLE))

    def _is_traced(self) -> bool:
        metadata = self._processing.data.get(self._kind.metadata) or {}
        return coverage.is_traced(proxy_server.general_settings, metadata)

    async def _whole(self, attempts: Attempts, answer: Answer, document: Body, account: Account) -> None:
        tokens = Tokens()
        tokens.learn(document)
        result = account.result(tokens, 0, [document] if self._is_traced() else [])
        try:
            await proxy_server.proxy_logging_obj.post_call_success_hook(
                data=self._processing.data, user_api_key_dict=self._user, response=result
            )
            cost = attempts.log.response_cost_calculator(result=result)
            if cost is not None:
                answer.hidden["response_cost"] = cost  # the row's; LiteLLM would reckon it a second time
            headers = await self._headers(answer, attempts.log, result, cost)
        except Exception as error:
            reason = f"a hook of the gate failed after the answer: {type(error).__name__}: {error}"
            raise ProxyException(message=reason, type="internal_server_error", param=None, code=500) from error
        else:
            await send_whole(answer.status, answer.first, _encoded(headers, answer.content_type), self._send)
        finally:
            await shielded(account.settle(result))

    async def _headers(self, answer: Answer, log: Any, response: Any, cost: float | None = None) -> dict[str, str]:
        """The headers that LiteLLM's own route would give, `x-litellm-*` and those of hooks."""
        hidden, data = answer.hidden, self._processing.data
        headers: dict[str, str] = ProxyBaseLLMRequestProcessing.get_custom_headers(
            user_api_key_dict=self._user,
            call_id=log.litellm_call_id,
            model_id=hidden["model_id"],
            api_base=hidden["api_base"],
            version=proxy_server.version,
            response_cost="" if cost is None else cost,
            model_region=getattr(self._user, "allowed_model_region", ""),
            request_data=data,
            hidden_params=hidden,
            litellm_logging_obj=log,
            **(hidden.get("additional_headers") or {}),
        )
        of_hooks: dict[str, str] = await proxy_server.proxy_logging_obj.post_call_response_headers_hook(
            data=data, user_api_key_dict=self._user, response=response, request_headers=dict(self._request.headers)
        )
        return headers | of_hooks | _kept(answer.headers, "content-encoding")


async def _authenticate(kind: Kind, request: Request, body: Body) -> Any:
    name = recognition.name_of(kind, request, body)
    if name is None:
        return await _authenticate_anew(request)
    if (user := recognition.known(name, request)) is None:
        user = await _authenticate_anew(request)
        if body.get("model") == name.model:  # LiteLLM renames some
            recognition.remember(name, user, request)
    return user


async def _authenticate_anew(request: Request) -> Any:
    keys = {
        "api_key": SpecialHeaders.openai_authorization,
        "azure_api_key_header": SpecialHeaders.azure_authorization,
        "anthropic_api_key_header": SpecialHeaders.anthropic_authorization,
        "google_ai_studio_api_key_header": SpecialHeaders.google_ai_studio_authorization,
        "azure_apim_header": SpecialHeaders.azure_apim_authorization,
        "custom_litellm_key_header": SpecialHeaders.custom_litellm_api_key,
    }  # all of them: what is left out would be FastAPI's default, an object
    return await user_api_key_auth(
        request=request, **{name: request.headers.get(header.value) for name, header in keys.items()}
    )


def _with_user(kind: Kind, body: Body, user: Any) -> dict[str, Any]:
    """Return the request as LiteLLM's own route hands it on, with the user's names in its metadata."""
    data = dict(body)
    if kind.is_form:
        data["file"] = (body["file"].filename,)  # its name, for the log; LiteLLM would read all of it
    if kind.metadata != "metadata":
        return data
    metadata = data["metadata"] = dict(data["metadata"]) if isinstance(data.get("metadata"), dict) else {}
    names = {
        "user_api_key_user_id": user.user_id,
        "user_api_key_team_id": user.team_id,
        "user_api_key_org_id": user.org_id,
        "user_api_key_org_alias": user.organization_alias,
        "agent_id": user.agent_id,
    }
    metadata.update({name: value for name, value in names.items() if value is not None})
    return data


def _asks_for_usage(body: Body) -> bool:
    options = body.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    return asked or proxy_server.general_settings.get("always_include_stream_usage") is True


def _kept(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def _encoded(headers: Mapping[str, Any], content_type: str) -> list[tuple[bytes, bytes]]:
    passed = {name.lower(): str(value) for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}
    passed["content-type"] = content_type
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in passed.items()]
