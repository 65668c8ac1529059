"""Servers as a gate sees them, each with a way of its own to answer or fail, behind one port.

A server is a path: `http://127.0.0.1:PORT/NAME/v1`. What it does with a request is the function of its name below.
"""

import asyncio
import itertools
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import BodyPartReader, web

WORDS = 5
PROMPT_TOKENS = 11
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": WORDS,
    "total_tokens": PROMPT_TOKENS + WORDS,
    "prompt_tokens_details": {"cached_tokens": 3},
}
TRANSCRIPT_USAGE = {
    "type": "tokens",
    "input_tokens": PROMPT_TOKENS,
    "output_tokens": WORDS,
    "total_tokens": PROMPT_TOKENS + WORDS,
    "input_tokens_details": {"cached_tokens": 3},
}
EMBEDDING_USAGE = {"prompt_tokens": 7, "total_tokens": 7}
Handler = Callable[["FakeServers", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
HANDLERS: dict[str, Handler] = {}


def server(handler: Handler) -> Handler:
    HANDLERS[handler.__name__] = handler
    return handler


class FakeServers:
    """All of them, on a thread of their own from creation to `close`."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.authorization: list[str | None] = []
        self._numbers = iter(range(1 << 30))
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def url(self, name: str) -> str:
        assert name in HANDLERS
        return f"http://127.0.0.1:{self.port}/{name}/v1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def name(self) -> str:
        """An id for an answer; each its own, as a real server gives them."""
        return f"chatcmpl-fake-{next(self._numbers)}"

    async def _run(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/{server}/v1/{path:.*}", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["server"]
        self.asked[name] += 1
        self.open[name] += 1
        try:
            body = await (_form(request) if request.content_type == "multipart/form-data" else request.json())
            self.bodies.append(body)
            self.authorization.append(request.headers.get("Authorization"))
            return await HANDLERS[name](self, request, body)
        finally:
            self.open[name] -= 1


async def _form(request: web.Request) -> dict[str, Any]:
    """The fields of a form, all of each; of a file its name and what it holds."""
    fields: dict[str, list[Any]] = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        content = await part.read()
        held = {"filename": part.filename, "type": part.headers.get("Content-Type"), "content": bytes(content)}
        fields.setdefault(str(part.name), []).append(held if part.filename else content.decode())
    return fields


def chunk(name: str, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    document = {"id": name, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return event(document)


def event(document: dict[str, Any], kind: str = "") -> bytes:
    return (f"event: {kind}\n".encode() if kind else b"") + b"data: " + json.dumps(document).encode() + b"\n\n"


async def opened(request: web.Request, **headers: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **headers})
    await response.prepare(request)
    return response


def error(status: int, message: str, **more: Any) -> web.Response:
    return web.json_response(
        {"error": {"code": status, "message": message, "type": "server_error", **more}}, status=status
    )


async def _chat_stream(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    name = servers.name()
    response = await opened(request, **{"x-corral-server": "fake", "x-corral-busy": "1"})
    await response.write(chunk(name, {"role": "assistant", "content": None}))
    for number in range(WORDS):
        await response.write(chunk(name, {"content": f" wörd{number}"}))
        await asyncio.sleep(body.get("pace_s", 0))
    await response.write(chunk(name, {}, "stop", timings={"predicted_n": WORDS}))
    if (body.get("stream_options") or {}).get("include_usage"):
        await response.write(
            event(
                {
                    "id": name,
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "m",
                    "choices": [],
                    "usage": USAGE,
                }
            )
        )
    await response.write(b"data: [DONE]\n\n")
    return response


def _chat(servers: FakeServers) -> web.Response:
    message = {"role": "assistant", "content": " ".join(["wörd"] * WORDS)}
    document = {
        "id": servers.name(), "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "timings": {"predicted_n": WORDS},
    }  # fmt: skip
    return web.json_response(document, headers={"x-corral-server": "fake", "x-corral-busy": "1"})


async def _completion(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    head = {"id": servers.name().replace("chat", ""), "object": "text_completion", "created": 1, "model": "m"}
    if not body.get("stream"):
        choice = {"index": 0, "text": "a b c d e", "finish_reason": "stop", "logprobs": None}
        return web.json_response({**head, "choices": [choice], "usage": USAGE})
    response = await opened(request)
    for number in range(WORDS):
        choice = {"index": 0, "text": f" w{number}", "finish_reason": "stop" if number == WORDS - 1 else None}
        await response.write(event({**head, "choices": [choice]}))
    await response.write(event({**head, "choices": [], "usage": USAGE}))
    await response.write(b"data: [DONE]\n\n")
    return response


async def _messages(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """As llama-server does: what came from its cache is counted beside the rest of the prompt."""
    read = {"input_tokens": PROMPT_TOKENS - 3, "cache_read_input_tokens": 3}
    head = {"id": servers.name().replace("chatcmpl", "msg"), "type": "message", "role": "assistant", "model": "m"}
    if not body.get("stream"):
        content = [{"type": "text", "text": "a wörd"}]
        document = {**head, "content": content, "stop_reason": "end_turn", "usage": {**read, "output_tokens": WORDS}}
        return web.json_response(document)
    response = await opened(request)
    message = {**head, "content": [], "usage": {**read, "output_tokens": 0}}
    await response.write(event({"type": "message_start", "message": message}, "message_start"))
    for _ in range(WORDS):
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " wörd"}}
        await response.write(event(delta, "content_block_delta"))
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": WORDS}}
    await response.write(event(last, "message_delta") + event({"type": "message_stop"}, "message_stop"))
    return response


async def _responses(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    usage = {
        "input_tokens": PROMPT_TOKENS, "output_tokens": WORDS, "total_tokens": PROMPT_TOKENS + WORDS,
        "input_tokens_details": {"cached_tokens": 3},
    }  # fmt: skip
    content = [{"type": "output_text", "text": "a wörd", "annotations": []}]
    output = [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}]
    name = servers.name().replace("chatcmpl", "resp")
    whole = {"id": name, "object": "response", "created_at": 1, "model": "m", "output": output, "usage": usage}
    if not body.get("stream"):
        return web.json_response({**whole, "status": "completed"})
    response = await opened(request)
    started = {"type": "response.created", "response": {"id": name, "object": "response", "status": "in_progress"}}
    await response.write(event(started, "response.created"))
    for _ in range(WORDS):
        delta = {"type": "response.output_text.delta", "item_id": "msg_1", "delta": " wörd"}
        await response.write(event(delta, "response.output_text.delta"))
    done = {"type": "response.completed", "response": {**whole, "status": "completed"}}
    await response.write(event(done, "response.completed"))
    return response


@server
async def good(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    path = request.match_info["path"]
    if path == "embeddings":
        rows = [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}]
        return web.json_response({"object": "list", "data": rows, "model": "m", "usage": EMBEDDING_USAGE})
    if path == "completions":
        return await _completion(servers, request, body)
    if path == "rerank":
        results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": -3.5}]
        return web.json_response({"object": "list", "model": "m", "results": results, "usage": EMBEDDING_USAGE})
    if path == "audio/transcriptions":
        usage = {} if body.get("prompt") == ["no usage"] else {"usage": TRANSCRIPT_USAGE}
        return web.json_response({"type": "transcript.text.done", "text": "a wörd", **usage})
    if path == "messages":
        return await _messages(servers, request, body)
    if path == "responses":
        return await _responses(servers, request, body)
    if body.get("stream"):
        return await _chat_stream(servers, request, body)
    return _chat(servers)


@server
async def another(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return await good(servers, request, body)


@server
async def fails_500(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return error(500, "out of tensors")


@server
async def fails_503(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return error(503, "loading the model")


@server
async def fails_429(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return error(429, "the queue is full")


@server
async def fails_400(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return error(400, "'temperature' is no number", type="invalid_request_error", param="temperature")


@server
async def silent(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Takes a request, and computes for ever."""
    await asyncio.Event().wait()
    raise AssertionError


@server
async def endless(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    name = servers.name()
    for number in itertools.count():  # LiteLLM breaks off an answer that repeats itself
        await response.write(chunk(name, {"content": f" on{number}"}))
        await asyncio.sleep(0.02)


@server
async def dies(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Breaks off in the middle of its third event."""
    name = servers.name()
    response = await opened(request)
    await response.write(chunk(name, {"content": "one"}) + chunk(name, {"content": "two"}) + b'data: {"id": "half')
    await asyncio.sleep(0.05)
    assert request.transport is not None
    request.transport.abort()
    return response


@server
async def gives_up(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Ends its stream with an error event, as a gpu-server does whose llama-server died."""
    response = await opened(request)
    await response.write(chunk(servers.name(), {"content": "one"}))
    await response.write(b'data: {"error":{"message":"llama-server died","type":"server_error","code":502}}\n\n')
    return response
