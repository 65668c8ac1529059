"""A farm whose limits are known: servers of so many slots and a fixed or random time of service, behind one address.

It is gate and servers in one: `/v1/...` queues for a slot of the least busy server, `/NAME/status` and `/NAME/metrics`
answer for a server, and `/NAME/v1/...` is one server alone, for a gate in front. Requests of a key can be limited, as a
gate does.
"""

import asyncio
import json
import random
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

WORDS = 4


@dataclass
class SimulatedServer:
    """One server; `busy` and `queued` are requests, as in a gpu-server's status."""

    name: str
    slots: int
    busy: int = 0
    queued: int = 0
    answered: int = 0
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))


class SimulatedFarm:
    """Runs on a thread of its own from creation to `close`.

    Args:
        servers: how many.
        slots: of each.
        service_s: how long a request holds a slot; the first token comes after a fifth of it.
        exponential: draw times of service from an exponential distribution of that mean.
        max_queue: requests that may wait for each server; more are refused with 429.
        limits: requests that a key gets; others get all they ask for.
    """

    def __init__(
        self,
        servers: int = 2,
        slots: int = 2,
        service_s: float = 0.05,
        *,
        exponential: bool = False,
        max_queue: int = 1000,
        limits: dict[str, int] | None = None,
    ) -> None:
        self.servers = [SimulatedServer(f"sim-{number + 1}", slots) for number in range(servers)]
        self.service_s, self.exponential, self.max_queue = service_s, exponential, max_queue
        self.limits, self.asked = limits or {}, Counter[str]()
        self.fail_next = 0
        self.bodies: list[dict[str, Any]] = []
        self._chance = random.Random(7)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def targets(self, **objectives: float | None) -> dict[str, Any]:
        """The targets.json of it: a chat model on all servers, and vectors on the first."""
        wanted = {"ttft_p95_s": 5.0, "duration_p95_s": None, "error_share": 0.01, **objectives}
        slots = self.servers[0].slots
        names = [server.name for server in self.servers]
        common = {"aliases": [], "context": 512, "rpm": None, "tpm": None, "objectives": wanted}
        return {
            "farm": "simulated",
            "gate": self.url,
            "models": [
                {"name": "sim", "mode": "chat", "servers": names, "slots": slots * len(names), **common},
                {"name": "vectors", "mode": "embedding", "servers": names[:1], "slots": slots, **common},
            ],
            "servers": [
                {"name": name, "model": "sim", "mode": "chat", "url": f"{self.url}/{name}", "slots": slots}
                for name in names
            ],
        }

    async def _run(self) -> None:
        for server in self.servers:
            server.free = asyncio.Semaphore(server.slots)
        app = web.Application()
        app.router.add_post("/v1/{path:.*}", self._answer)
        app.router.add_post("/{name}/v1/{path:.*}", self._answer)
        app.router.add_get("/{name}/status", self._status)
        app.router.add_get("/{name}/metrics", self._metrics)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    def _named(self, request: web.Request) -> SimulatedServer:
        return next(server for server in self.servers if server.name == request.match_info["name"])

    def _least_busy(self) -> SimulatedServer:
        return min(self.servers, key=lambda each: (each.busy + each.queued) / each.slots)

    async def _status(self, request: web.Request) -> web.Response:
        server = self._named(request)
        state = {
            "state": "ready", "slots": server.slots, "busy": server.busy, "queued": server.queued, "generation": 1,
            "max_queue": self.max_queue, "context": 512, "tokens_per_second": WORDS / self.service_s,
            "prompt_tokens_per_second": 1000.0,
        }  # fmt: skip
        return web.json_response(state)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=f'gpu_server_requests_total{{outcome="ok"}} {self._named(request).answered}\n')

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        key = request.headers["Authorization"].removeprefix("Bearer ")
        self.asked[key] += 1
        server = self._named(request) if "name" in request.match_info else self._least_busy()
        if self.asked[key] > self.limits.get(key, 1 << 40) or server.queued >= self.max_queue:
            return _error(429, "too many")
        if self.fail_next > 0:
            self.fail_next -= 1
            return _error(500, "failed as told")
        server.queued += 1
        waiting = True
        try:
            async with server.free:
                server.queued, server.busy, waiting = server.queued - 1, server.busy + 1, False
                try:
                    return await self._serve(request, body, server)
                finally:
                    server.busy -= 1
                    server.answered += 1
        finally:
            server.queued -= waiting

    async def _serve(self, request: web.Request, body: dict[str, Any], server: SimulatedServer) -> web.StreamResponse:
        service_s = self._chance.expovariate(1 / self.service_s) if self.exponential else self.service_s
        load = {"busy": server.busy, "queued": server.queued, "slots": server.slots}
        headers = {"x-corral-server": server.name, **{f"x-corral-{name}": str(value) for name, value in load.items()}}
        if not body.get("stream"):
            await asyncio.sleep(service_s)
            return web.json_response(_whole(body), headers=headers)
        await asyncio.sleep(service_s / 5)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **headers})
        await response.prepare(request)
        with suppress(ConnectionResetError):
            for _ in range(WORDS):
                await response.write(_event({"choices": [{"index": 0, "delta": {"content": " word"}}]}))
                await asyncio.sleep(service_s * 0.8 / WORDS)
            await response.write(_event({"choices": [], "usage": _usage()}) + b"data: [DONE]\n\n")
        return response


def _usage() -> dict[str, Any]:
    return {
        "prompt_tokens": 10,
        "completion_tokens": WORDS,
        "total_tokens": 10 + WORDS,
        "prompt_tokens_details": {"cached_tokens": 6},
    }


def _whole(body: dict[str, Any]) -> dict[str, Any]:
    if "input" in body:
        rows = [{"index": number, "embedding": [0.5]} for number, _ in enumerate(body["input"])]
        return {"data": rows, "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": "word"}}], "usage": _usage()}


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "error", "code": status}}, status=status)
