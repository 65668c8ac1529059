"""A streaming client in the place of the gate: it hands on what a caller asks, and notes when the first token came."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp import web


class Tap:
    """What was noted: of each streamed chat, seconds from its request to its first piece of text, and to its end."""

    def __init__(self, gate: str) -> None:
        self.gate, self.url = gate, ""
        self.first_tokens_s: list[float] = []
        self.whole_s: list[float] = []
        self.loop = asyncio.new_event_loop()
        self.stop, self.started = asyncio.Event(), threading.Event()

    async def run(self) -> None:
        async with aiohttp.ClientSession() as self.session:
            app = web.Application()
            app.router.add_post("/{path:.*}", self._hand_on)
            runner = web.AppRunner(app, shutdown_timeout=0.2)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self.started.set()
            await self.stop.wait()
            await runner.cleanup()

    async def _hand_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name: request.headers[name] for name in ("authorization", "content-type")}
        began = time.perf_counter()
        async with self.session.post(f"{self.gate}{request.path}", data=body, headers=headers) as answer:
            named = {name: value for name, value in answer.headers.items() if name.lower().startswith("x-corral-")}
            response = web.StreamResponse(status=answer.status, headers={"content-type": answer.content_type, **named})
            first = None
            seen = b""
            async for piece in answer.content.iter_any():
                seen += piece
                if first is None and _has_text(seen):
                    first = time.perf_counter() - began
                if not response.prepared:
                    await response.prepare(request)
                await response.write(piece)
            if first is not None:
                self.first_tokens_s.append(first)
                self.whole_s.append(time.perf_counter() - began)
            return response


def _has_text(stream: bytes) -> bool:
    plain = stream.replace(b'": ', b'":')
    return b'"content":"' in plain.replace(b'"content":""', b"")


@contextmanager
def tapped(gate: str) -> Iterator[Tap]:
    """Give a tap before a gate, `http://host:port`."""
    tap = Tap(gate)
    thread = threading.Thread(target=tap.loop.run_until_complete, args=(tap.run(),), daemon=True)
    thread.start()
    try:
        assert tap.started.wait(10)
        yield tap
    finally:
        tap.loop.call_soon_threadsafe(tap.stop.set)
        thread.join(10)
        tap.loop.close()
