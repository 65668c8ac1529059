"""The control routes, on FastAPI: health, status, metrics, drain, resume, restart, logs (contract 2)."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gpu_server.errors import ApiError
from gpu_server.openapi import complete
from gpu_server.output import RING_LINES
from gpu_server.routes import MODE_OF, OPEN_PATHS, routes_for
from gpu_server.states import Restart, StateName

if TYPE_CHECKING:
    from gpu_server.wrapper import Wrapper


class Health(BaseModel):
    """Whether a request would be served now."""

    state: StateName
    server: str
    detail: str | None = None
    """Why it has failed, where it has."""


class Status(BaseModel):
    """What a router needs to know; `busy` and `queued` count requests, `context` tokens a slot.

    `cache_ram_mib` is the host memory for prompts of idle chats: 0 for none, -1 without a limit.
    """

    state: StateName
    model: str
    mode: str
    slots: int
    busy: int
    queued: int
    max_queue: int
    context: int
    generation: int
    uptime_s: float
    tokens_per_second: float | None
    prompt_tokens_per_second: float | None
    cache_ram_mib: int


class Accepted(BaseModel):
    """The state right after a command was taken; its effect is under way."""

    state: StateName


def control_app(wrapper: "Wrapper") -> FastAPI:
    """Return the FastAPI app that controls `wrapper`."""
    app = FastAPI(title="gpu-server", description="One supervised llama-server.", docs_url=None, redoc_url=None)

    @app.get("/health", responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        """Say whether it can serve now; costs the GPU nothing."""
        snapshot = wrapper.supervisor.snapshot
        if not snapshot.can_serve:
            response.status_code = 503
            response.headers["retry-after"] = "5"
        return Health(state=snapshot.state, server=wrapper.settings.name, detail=wrapper.supervisor.why_failed())

    @app.get("/status")
    async def status() -> Status:
        """Describe it for routers."""
        return wrapper.status()

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Give the metrics in Prometheus's text format."""
        return Response(generate_latest(wrapper.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/drain", status_code=202)
    async def drain() -> Accepted:
        """Refuse new work; when the present work is done, or at DRAIN_TIMEOUT_S, stop llama-server."""
        wrapper.begin_drain()
        return Accepted(state="draining")

    @app.post("/resume", status_code=202)
    async def resume() -> Accepted:
        """Take work again after a drain, starting llama-server if it was stopped."""
        wrapper.resume()
        return Accepted(state=wrapper.supervisor.snapshot.state)

    @app.post("/restart", status_code=202)
    async def restart() -> Accepted:
        """Restart llama-server now; requests whose answers had not begun are asked again of the new one."""
        wrapper.supervisor.tell(Restart())
        return Accepted(state="restarting")

    @app.get("/logs", response_class=PlainTextResponse)
    async def logs(lines: Annotated[int, Query(ge=0, le=RING_LINES)] = 200, *, follow: bool = False) -> Response:
        """Give the last lines of llama-server's output; with `follow`, go on until the client leaves."""
        if follow:
            return StreamingResponse(_lines(wrapper, lines), media_type="text/plain; charset=utf-8")
        return PlainTextResponse("".join(f"{line}\n" for line in wrapper.ring.last(lines)))

    _add_error_shapes(app, wrapper)
    _describe_all(app, wrapper)
    return app


def _describe_all(app: FastAPI, wrapper: "Wrapper") -> None:
    """Let /openapi.json tell of the proxied routes too, and of our errors in place of FastAPI's 422."""
    of_control = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = of_control()
            for operations in document["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            app.openapi_schema = complete(document, routes_for(wrapper.settings.mode), OPEN_PATHS)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


async def _lines(wrapper: "Wrapper", count: int) -> AsyncIterator[str]:
    async for line in wrapper.ring.follow(count):
        yield f"{line}\n"


def _add_error_shapes(app: FastAPI, wrapper: "Wrapper") -> None:
    async def http_error(request: Request, error: Exception) -> Response:
        status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
        told = ApiError(status, _explain(request, status, wrapper.settings.mode), _CODES.get(status, "error"))
        return _json(told, headers)  # a 405 carries Allow

    async def invalid(_request: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": ("",), "msg": str(error)}
        name = str(first["loc"][-1])
        return _json(ApiError(400, f"{name}: {first['msg']}", "invalid_parameter", param=name))

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)


_CODES = {404: "not_found", 405: "method_not_allowed"}


def _explain(request: Request, status: int, mode: str) -> str:
    path = request.url.path
    if status == 405:
        return f"{path} does not take {request.method}"
    if path in MODE_OF:
        return f"{path} is served by MODE={MODE_OF[path]}; this server's is {mode}"
    return f"there is no {path} on a gpu-server"


def _json(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    return Response(error.body(), status_code=error.status, headers=headers, media_type="application/json")
