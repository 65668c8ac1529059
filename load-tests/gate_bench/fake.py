"""A fast fake llama-server. Each token of a stream is the time at which it was sent: clients see its delay.

What is asked of it travels in a chat's own parameters, which every gate passes on: `max_tokens`, and `seed` as tokens a
second (0: as fast as it can).
"""

import asyncio
import itertools
import json
import re
import sys
import time
from typing import Any

import uvloop
from bench_gpu_server import END, USAGE, FakeLlama, event

SLOTS = 160
GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it are spread evenly over the time between two tokens, however many streams there are."""
STREAMS = itertools.count(1)
CONTROL: dict[bytes, Any] = {
    b"/v1/models": {"object": "list", "data": [{"id": "chat", "object": "model", "owned_by": "llamacpp"}]},
    b"/health": {"status": "ok"}, b"/props": {"build_info": "bench"}, b"/metrics": {},
    b"/slots": [{"id": index, "id_task": 1, "n_ctx": 2048, "is_processing": False} for index in range(SLOTS)],
    b"/status": {
        "state": "ready", "busy": 0, "queued": 0, "slots": SLOTS, "max_queue": 64, "context": 2048, "generation": 1,
        "tokens_per_second": 50, "prompt_tokens_per_second": 2000,
    },
}  # fmt: skip
ANSWER = json.dumps(
    {
        "id": "chatcmpl-GMEfYi8NlH1nhcEmnExlmruPs5tnpV9L", "object": "chat.completion", "created": 1795261400,
        "model": "chat", **USAGE,
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello! How are you?"}}
        ],
    }
).encode()  # fmt: skip
BEFORE, AFTER = event("@").split(b"@")
LAST = event(None, **USAGE)
SENT_AT = re.compile(rb'"content": ?"(\d{9,})"')
"""Finds the time in an event, in ns of the monotonic clock, which all processes share; some gates write JSON anew."""


class FakeChat(FakeLlama):
    """Answers chats, and what gates ask beside."""

    def on_message_complete(self) -> None:
        """Answer."""
        if self.url in CONTROL:
            self.whole(json.dumps(CONTROL[self.url]).encode())
            return
        request = json.loads(self.body or b"{}")
        if not request.get("stream"):
            self.whole(ANSWER)
            return
        tokens = request.get("max_tokens") or request.get("max_completion_tokens") or 8  # LiteLLM renames it
        rate = request.get("seed") or 0
        self.task = asyncio.get_running_loop().create_task(self.stream(tokens, 1 / rate if rate else 0.0))

    async def stream(self, tokens: int, pace_s: float) -> None:
        """Send a stream, an HTTP chunk for each event as llama-server does.

        Streams do not keep step with each other, as servers do not. Those that a fast gate begins all at once would
        bring their tokens all at once, and cost it fewer wake-ups than a slow one.
        """
        loop = asyncio.get_running_loop()
        write = self.transport.write
        write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        began = loop.time() - (next(STREAMS) * GOLDEN % 1) * pace_s
        for number in range(tokens):
            token = b"%b%d%b" % (BEFORE, time.monotonic_ns(), AFTER)
            write(b"%x\r\n%b\r\n" % (len(token), token))
            if pace_s:
                await asyncio.sleep(began + (number + 1) * pace_s - loop.time())
            elif not self.can_write.is_set():
                await self.can_write.wait()
        for last in (LAST, END):
            write(b"%x\r\n%b\r\n" % (len(last), last))
        write(b"0\r\n\r\n")


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(FakeChat, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":  # as a llama-server, by a gpu-server, or with its port alone
    uvloop.run(serve(int(sys.argv[sys.argv.index("--port") + 1])))
