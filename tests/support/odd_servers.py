"""More servers as a gate sees them: that spell their answers as no llama-server does, or never stop talking."""

import asyncio
import json
import re
from typing import Any

from aiohttp import web

from support.fake_servers import USAGE, WORDS, FakeServers, chunk, opened, server

FLOOD = 48 << 20
"""Bytes of a stream that is sent as fast as it is read."""


def odd_stream(name: str) -> bytes:
    """A stream in spellings that the standard of server-sent events allows; the usage comes with the last word."""
    events = [
        b": a comment",
        *(b"data:" + _word(name, f" wörd{number}") for number in range(WORDS - 1)),
        b"id: 7\r\nretry: 5\r\ndata: " + _word(name, f" wörd{WORDS - 1}", usage=USAGE),
        b"data:[DONE]",
    ]
    return b"".join(event + b"\r\n\r\n" for event in events)


def _word(name: str, text: str, **more: Any) -> bytes:
    finish = "stop" if more else None
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    document = {"id": name, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return json.dumps(document, ensure_ascii=False).encode()


@server
async def odd(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Its answer is cut in the middle of characters."""
    response = await opened(request)
    for piece in re.split(rb"(?<=\xc3)", odd_stream("chatcmpl-odd")):
        await response.write(piece)
        await asyncio.sleep(0.005)  # or they would arrive as one
    return response


@server
async def lies(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Calls a stream JSON, and JSON a stream."""
    if body.get("stream"):
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(odd_stream(servers.name()))
        return response
    message = {"role": "assistant", "content": "a wörd"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = {"id": servers.name(), "object": "chat.completion", "model": "m", "choices": [choice], "usage": USAGE}
    return web.Response(body=json.dumps(document), content_type="text/event-stream")


@server
async def floods(servers: FakeServers, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Sends as fast as it is read."""
    response = await opened(request)
    name, size = servers.name(), 64 << 10
    for number in range(FLOOD // size):
        await response.write(chunk(name, {"content": f"{number:05}" + "x" * size}))
        servers.sent["floods"] += size
    await response.write(b"data: [DONE]\n\n")
    return response
