"""gpu-servers made up for the routing hook: they answer chats and `/status`, and fail as they are told."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


def answer(chars: int) -> dict[str, Any]:
    """Return a chat's answer; of its prompt's tokens, four characters each, half were cached."""
    usage = {
        "prompt_tokens": chars // 4, "completion_tokens": 1, "total_tokens": chars // 4 + 1,
        "prompt_tokens_details": {"cached_tokens": chars // 8},
    }  # fmt: skip
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


@dataclass
class RoutedServer:
    """One server; use as an async context manager. Fields may be changed while it runs."""

    name: str
    state: str = "ready"
    busy: int = 0
    queued: int = 0
    generation: int = 1
    status_body: bytes | None = None  # instead of the true one
    status_code: int = 200
    status_delay_s: float = 0.0
    fail_with: int | None = None  # status of answers to requests
    delay_s: float = 0.0
    requests: int = 0
    answered: int = 0
    polls: int = 0
    port: int = 0
    _runner: web.AppRunner | None = field(default=None, repr=False)

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def listen(self) -> None:
        """Begin to listen, on the port of before if there was one."""
        app = web.Application()
        app.router.add_get("/status", self._status)
        app.router.add_post("/v1/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Be gone, with all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def deployment(self, group: str = "chat", mode: str = "chat", **parameters: object) -> dict[str, Any]:
        """Return its entry in LiteLLM's `model_list`."""
        return {
            "model_name": group,
            "litellm_params": {
                "model": f"hosted_vllm/{group}", "api_base": f"http://127.0.0.1:{self.port}/v1", "api_key": "key",
                "max_retries": 0, **parameters,
            },
            "model_info": {"id": self.name, "mode": mode},
        }  # fmt: skip

    async def _status(self, _request: web.Request) -> web.Response:
        self.polls += 1
        await asyncio.sleep(self.status_delay_s)
        document = {
            "state": self.state, "model": "m", "mode": "chat", "slots": 2, "busy": self.busy, "queued": self.queued,
            "max_queue": 2, "context": 4096, "generation": self.generation, "uptime_s": 1.0,
            "tokens_per_second": 50.0, "prompt_tokens_per_second": 1000.0,
        }  # fmt: skip
        body = json.dumps(document).encode() if self.status_body is None else self.status_body
        return web.Response(body=body, status=self.status_code, content_type="application/json")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self.busy += 1
        try:
            body = await request.json()
            await asyncio.sleep(self.delay_s)
            if self.fail_with is not None:
                error = {"error": {"message": "made up", "type": "t", "param": None, "code": "c"}}
                return web.json_response(error, status=self.fail_with, headers=self._headers())
            self.answered += 1
            if request.path.endswith("embeddings"):
                data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
                usage = {"prompt_tokens": 1, "total_tokens": 1}
                return web.json_response({"object": "list", "model": "m", "data": data, "usage": usage})
            chars = sum(len(message["content"]) for message in body["messages"])
            return web.json_response(answer(chars), headers=self._headers())
        finally:
            self.busy -= 1

    def _headers(self) -> dict[str, str]:
        return {"x-corral-busy": str(self.busy), "x-corral-queued": str(self.queued), "x-corral-slots": "2"}
