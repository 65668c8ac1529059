"""Simulated gpu-servers that listen: real routers can stand before more servers than a machine could run.

Each has the slots, speeds and memory of `server`, in real time, and speaks what a router asks of a gpu-server: chats
(four characters are a token), `/status`, `/health` and `/v1/models`. It writes as many tokens as are asked for.
`POST /simulate` with `{"speed": 2}` makes a server twice as fast as CARD, with `{"lost_s": 5}` it dies for so long:
what it had fails, as a gpu-server fails what its llama-server had (502, or a stream that breaks off), and what comes
is refused (503).

    python -m routing_sim.over_http 8001 8002
"""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from corral_routing.prompts import prompt_of
from routing_sim.clock import LoopClock
from routing_sim.engine import Card
from routing_sim.server import Request, SimulatedServer

CHARS_PER_TOKEN = 4
WORD = "word"
"""A token of an answer."""
DEFAULT_TOKENS = 16
MOST_BODY = 16 * 2**20
CARD = Card(prefill_rate=2000.0, decode_rate=120.0)
"""A server's figures unless told otherwise: a fast GPU's, so that a run is a short one."""


class ListeningServer:
    """One server's HTTP; `app` is what listens."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self.app = web.Application(client_max_size=MOST_BODY)
        self.app.router.add_get("/health", self._health)
        self.app.router.add_get("/status", self._status)
        self.app.router.add_get("/v1/models", self._models)
        self.app.router.add_post("/v1/chat/completions", self._chat)
        self.app.router.add_post("/simulate", self._simulate)

    async def _health(self, _request: web.Request) -> web.Response:
        state = self._server.status().state
        return web.json_response({"state": state}, status=200 if state == "ready" else 503)

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "chat", "object": "model", "owned_by": "corral"}]})

    async def _status(self, _request: web.Request) -> web.Response:
        told = self._server.status()
        return web.json_response(
            {
                "state": told.state, "model": "chat", "mode": "chat", "slots": told.load.slots, "busy": told.load.busy,
                "queued": told.load.queued, "max_queue": told.max_queue, "context": told.context,
                "generation": told.generation, "uptime_s": 1.0, "tokens_per_second": told.decode_rate,
                "prompt_tokens_per_second": told.prefill_rate,
            }
        )  # fmt: skip

    async def _chat(self, asked: web.Request) -> web.StreamResponse:
        try:
            body = await asked.json()
            request = request_of(body)
        except (TypeError, ValueError) as error:
            return self._error(400, f"the body is no chat: {error}")
        loop = asyncio.get_running_loop()
        began, ended = asyncio.Event(), loop.create_future()

        def done(_request: Request, well: bool) -> None:
            began.set()
            if not ended.done():
                ended.set_result(well)

        request.arrived, request.done = loop.time(), done
        took = self._server.take(request, lambda _request: began.set())
        if took != "taken":
            status, why = (429, "all slots work and the queue is full") if took == "full" else (503, "it restarts")
            return self._error(status, why, {"retry-after": "1"})
        await began.wait()
        if request.first_token is None or (not body.get("stream") and not await ended):
            return self._error(502, "llama-server died under the request")
        if not body.get("stream"):
            return web.json_response(whole(request), headers=self._headers())
        answer = web.StreamResponse(headers={"content-type": "text/event-stream", **self._headers()})
        await answer.prepare(asked)
        await answer.write(event({"choices": [delta(WORD)]}))
        if not await ended:
            await answer.write(b'data: {"error": {"message": "llama-server died under the request"}}\n\n')
            return answer
        await answer.write(event({"choices": [delta(WORD * (request.answer_tokens - 1), "stop")]}))
        await answer.write(event({"choices": [], "usage": usage(request)}) + b"data: [DONE]\n\n")
        return answer

    async def _simulate(self, asked: web.Request) -> web.Response:
        wanted = await asked.json()
        speed, lost_s = wanted.get("speed"), wanted.get("lost_s")
        if speed is not None and speed <= 0:
            return self._error(400, f"speed: {speed} is not above 0")
        if speed is not None:
            self._server.change_speed(speed)
        if lost_s is not None:
            self._server.fail(lost_s)
        return web.json_response({"speed": self._server.speed, "up": self._server.up})

    def _headers(self) -> dict[str, str]:
        load = self._server.load
        told = {"server": self._server.name, "busy": load.busy, "queued": load.queued, "slots": load.slots}
        return {f"x-corral-{name}": str(value) for name, value in told.items()}

    def _error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
        error = {"message": message, "type": "simulated", "param": None, "code": status}
        return web.json_response({"error": error}, status=status, headers={**self._headers(), **(headers or {})})


def request_of(body: Mapping[str, Any]) -> Request:
    """Return a chat's body as the simulator's request.

    Raises:
        ValueError: It has no messages.
    """
    if not isinstance(body, Mapping):
        raise ValueError("it is no JSON object")  # noqa: TRY004  # as for all that is wrong with it
    prompt = prompt_of(body)
    if prompt is None:
        raise ValueError("it has no messages")
    tokens = tuple(max(1, chars // CHARS_PER_TOKEN) for chars in prompt.chars)
    wanted = body.get("max_tokens") or body.get("max_completion_tokens") or DEFAULT_TOKENS  # LiteLLM renames it
    return Request(prompt, tokens, max(1, int(wanted)))


def usage(request: Request) -> dict[str, Any]:
    """Return what an answer cost, as llama-server tells it."""
    return {
        "prompt_tokens": request.tokens[-1], "completion_tokens": request.answer_tokens,
        "total_tokens": request.tokens[-1] + request.answer_tokens,
        "prompt_tokens_details": {"cached_tokens": request.cached},
    }  # fmt: skip


def whole(request: Request) -> dict[str, Any]:
    """Return a whole answer."""
    message = {"role": "assistant", "content": WORD * request.answer_tokens}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "chat", "choices": [choice],
            "usage": usage(request)}  # fmt: skip


def delta(content: str, finish_reason: str | None = None) -> dict[str, Any]:
    """Return a stream's choice."""
    return {"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": finish_reason}


def event(document: Mapping[str, Any]) -> bytes:
    """Return a stream's event."""
    told = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "chat", **document}
    return b"data: " + json.dumps(told).encode() + b"\n\n"


async def serve(ports: Sequence[int], card: Card) -> None:
    """Listen on the loopback until cancelled, a server on each port."""
    clock = LoopClock(asyncio.get_running_loop())
    runners = []
    try:
        for number, port in enumerate(ports):
            server = ListeningServer(SimulatedServer(f"chat-{number + 1}", card, clock))
            runner = web.AppRunner(server.app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            runners.append(runner)
            await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()
    finally:
        for runner in runners:
            await runner.cleanup()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="routing_sim.over_http", description=__doc__)
    parser.add_argument("ports", type=int, nargs="+", metavar="PORT", help="of a server")
    asyncio.run(serve(parser.parse_args().ports, CARD))


if __name__ == "__main__":
    main()
