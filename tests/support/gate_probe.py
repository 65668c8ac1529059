"""A callback for a gate under test: shows what LiteLLM counts and logs, at `/test/state` and `/test/events`."""

import asyncio
import os
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

EVENTS: list[dict[str, Any]] = []


class Probe(CustomLogger):
    """Listens; raises where a request's metadata asks it to."""

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> None:
        _raise_if_asked("before", data)

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: Any,
        request_kwargs: Any = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        _raise_if_asked("choosing", request_kwargs or {})
        return healthy_deployments

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        _raise_if_asked("logging", kwargs.get("litellm_params") or {})
        _note("success", kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        _note("failure", kwargs)


def _raise_if_asked(where: str, request: dict[str, Any]) -> None:
    asked = (request.get("metadata") or {}).get("requester_metadata") or {}
    if asked.get("raise") == where:
        raise RuntimeError(f"the probe raises {where}")


def _note(outcome: str, kwargs: dict[str, Any]) -> None:
    logged = kwargs.get("standard_logging_object") or {}
    wanted = (
        "id",
        "model_group",
        "model_id",
        "prompt_tokens",
        "completion_tokens",
        "response_cost",
        "response",
        "stream",
    )
    EVENTS.append({"outcome": outcome, **{name: logged.get(name) for name in wanted}})


async def state(request: Request) -> JSONResponse:
    router = proxy_server.llm_router
    memory = router.cache.in_memory_cache.cache_dict
    limits = proxy_server.proxy_logging_obj.internal_usage_cache.dual_cache.in_memory_cache.cache_dict
    return JSONResponse(
        {
            "pid": os.getpid(),
            "fast_path": any(
                type(route).__module__.startswith("corral_fast_path") for route in proxy_server.app.routes
            ),
            "busy": {key: value for key, value in memory.items() if "_request_count:" in key and value},
            "parallel": {key: str(value) for key, value in limits.items() if "max_parallel" in key and value},
            "resting": await router._async_get_cooldown_deployments()
            if hasattr(router, "_async_get_cooldown_deployments")
            else None,
            "tasks": len(asyncio.all_tasks()),
        }
    )


async def events(request: Request) -> JSONResponse:
    return JSONResponse(EVENTS)


probe = Probe()
for path, endpoint in (("/test/state", state), ("/test/events", events)):
    proxy_server.app.router.routes.insert(0, Route(path, endpoint=endpoint))
