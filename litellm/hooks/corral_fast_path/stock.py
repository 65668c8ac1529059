"""Handing a request to LiteLLM's own code after its checks have run: what it is for was only known then.

A key may have aliases of its own, a team models of its own, a hook may rename a model, a limit may turn it into its
fallback. The request has been counted by then; LiteLLM goes on from that point.
"""

from functools import partial
from typing import Any

from fastapi.encoders import jsonable_encoder
from litellm.proxy import proxy_server
from litellm.proxy._types import ProxyException
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Send

from corral_fast_path import coverage, metrics
from corral_fast_path.kinds import Kind


def needed(data: dict[str, Any], user: Any, router: Any) -> str | None:
    """Return why a request that LiteLLM has let in must go on with LiteLLM; None if the fast path keeps it."""
    if data.get("router_settings_override"):
        return "router settings of a key or team"
    if user.team_id is not None and router.map_team_model(data["model"], user.team_id) is not None:
        return "model of a team"
    return coverage.why_not_model(data["model"], router)


async def go_on(reason: str, kind: Kind, processing: Any, user: Any, request: Request, send: Send) -> None:
    """Have LiteLLM answer a request that it has let in.

    Raises:
        ProxyException: LiteLLM's, if it fails.
    """
    metrics.count_stock(reason)
    if kind.is_form and isinstance(file := (await request.form())[kind.prompt], UploadFile):
        processing.data[kind.prompt] = (file.filename, await file.read())
    headers = Response()
    try:
        result = await processing.base_process_llm_request(
            request=request,
            fastapi_response=headers,
            user_api_key_dict=user,
            route_type=kind.call_type,
            proxy_logging_obj=proxy_server.proxy_logging_obj,
            llm_router=proxy_server.llm_router,
            general_settings=proxy_server.general_settings,
            proxy_config=proxy_server.proxy_config,
            select_data_generator=_generator(kind),
            version=proxy_server.version,
            skip_pre_call_logic=True,
        )
    except ProxyException:
        raise
    except Exception as error:
        raise await processing._handle_llm_api_exception(
            e=error,
            user_api_key_dict=user,
            proxy_logging_obj=proxy_server.proxy_logging_obj,
            version=proxy_server.version,
        ) from error
    await _response(result, headers)(request.scope, request.receive, send)


def _generator(kind: Kind) -> Any:
    """What LiteLLM's own route of this kind makes the events of a stream with."""
    if kind.call_type == "anthropic_messages":
        return None
    if kind.call_type == "aresponses":
        return partial(proxy_server.select_data_generator, responses_stream_errors=True)
    return proxy_server.select_data_generator


def _response(result: Any, headers: Response) -> Response:
    if isinstance(result, Response):
        return result
    answer = JSONResponse(jsonable_encoder(result, exclude_unset=True))
    answer.headers.update({name: value for name, value in headers.headers.items() if name != "content-length"})
    return answer
