"""An answer on its way to the client: streams event by event as they come, other answers whole.

A whole answer goes out when all of it is there, so that one that breaks half-way can still become an error, or be asked
again of the next llama-server.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gpu_server.assembly import PROGRESS, Assembler, Form, StreamError, without_progress
from gpu_server.errors import ApiError, in_openai_shape
from gpu_server.events import Events, carries_data
from gpu_server.exchange import Exchange
from gpu_server.guard import Guard
from gpu_server.http1 import Connection
from gpu_server.poller import Progress
from gpu_server.settings import Settings

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]

# Hop-by-hop (RFC 9110, 7.6.1), those that our own server writes, and llama-server's CORS, which is not its to decide.
_DROPPED = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"upgrade",
    b"transfer-encoding", b"content-length", b"date", b"server", b"process-start-time-unix",
})  # fmt: skip
_WHOLE = b"application/json; charset=utf-8"  # as llama-server says it
_PIECE_BYTES = 64 * 1024  # of a whole answer; between two, it is seen whether the client reads
# A stream that begun and stands still is given up so long after STALL_TIMEOUT_S; before, the poller finds out whether
# it is llama-server that stands still, and has it replaced.
_STALL_MARGIN_S = 5.0


class Delivery:
    """Sends llama-server's answers to clients, and keeps `progress` and each exchange true meanwhile."""

    def __init__(self, settings: Settings, progress: Progress, load_headers: Callable[[], HeaderList]) -> None:
        self._settings = settings
        self._progress = progress
        self._load_headers = load_headers

    def timed_out(self, exchange: Exchange) -> ApiError:
        """Return the error for an answer that did not begin, or go on, in time."""
        if exchange.first_byte is None:
            what = f"begin within {self._settings.first_byte_timeout_s:g} s (FIRST_BYTE_TIMEOUT_S)"
        else:
            what = f"go on for {self._settings.stall_timeout_s:g} s (STALL_TIMEOUT_S)"
        return ApiError(504, f"the answer did not {what}", "upstream_timeout")

    async def assembled(self, exchange: Exchange, answer: Connection, send: Send, guard: Guard) -> None:
        """Read a stream to its end and send what it says as one answer."""
        assembler = Assembler(exchange.path)
        events = Events()
        try:
            while piece := await answer.read():
                complete = events.complete(piece)
                if complete and carries_data(complete):
                    self._progress.touch()
                    assembler.feed(complete)
            body, exchange.usage = assembler.answer()
        except StreamError as error:
            exchange.status, body = error.status, error.body
        await self.whole(exchange, body, [(b"content-type", _WHOLE)], send, guard)

    async def whole(self, exchange: Exchange, body: bytes, headers: HeaderList, send: Send, guard: Guard) -> None:
        """Send a whole answer; one that is an error in OpenAI's form."""
        self._progress.touch()
        if exchange.status >= 400:
            body = in_openai_shape(body, exchange.status)
            headers = [(b"content-type", b"application/json")]
            exchange.outcome = "bad_request" if exchange.status < 500 else "upstream_error"
        else:
            exchange.outcome = "ok"
        headers.append((b"content-length", b"%d" % len(body)))
        exchange.first_byte = exchange.last_byte = guard.sending = time.perf_counter()
        self._progress.waiting -= 1
        try:
            await self._start(exchange, headers, send, guard)
            last = max(0, len(body) - 1) // _PIECE_BYTES * _PIECE_BYTES
            for at in range(0, last, _PIECE_BYTES):
                await send({"type": "http.response.body", "body": body[at : at + _PIECE_BYTES], "more_body": True})
            await send({"type": "http.response.body", "body": body[last:]})
        finally:
            self._progress.waiting += 1
        exchange.bytes_out = len(body)

    async def stream(
        self, exchange: Exchange, answer: Connection, headers: HeaderList, asked: Form, send: Send, guard: Guard
    ) -> None:
        """Pass whole events on as they come; the beginning of one waits for its end, so that an error can follow it."""
        progress, clock = self._progress, time.perf_counter
        events = Events()
        chunk = b""
        while piece := await answer.read():
            chunk = events.complete(piece)
            if asked.changed and PROGRESS in chunk:
                progress.touch()
                chunk = without_progress(chunk)
            if not chunk:
                continue
            now = clock()
            exchange.bytes_out += len(chunk)
            if exchange.first_byte is None:
                exchange.first_byte = now
                guard.allow(self._settings.stall_timeout_s + _STALL_MARGIN_S, lambda: self.timed_out(exchange))
                await self._start(exchange, headers, send, guard)
            if carries_data(chunk):
                exchange.last_byte = guard.moved = progress.last = now
                exchange.tail.see(chunk)
            if answer.ended:
                break  # the end goes out with the last events
            progress.waiting -= 1
            guard.sending = now
            try:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            finally:
                progress.waiting += 1
                guard.sending = 0.0
            chunk = b""
            held_up = clock() - now
            guard.moved += held_up  # a slow client is not llama-server's doing
            progress.last += held_up
        if exchange.first_byte is None:
            await self._start(exchange, headers, send, guard)
        guard.sending = clock()
        await send({"type": "http.response.body", "body": chunk + events.rest})
        exchange.outcome = "ok"

    async def _start(self, exchange: Exchange, headers: HeaderList, send: Send, guard: Guard) -> None:
        guard.client.hold_next()
        headers = [*headers, (b"x-request-id", exchange.request_id), *self._load_headers()]
        await send({"type": "http.response.start", "status": exchange.status, "headers": headers})


async def send_error(error: ApiError, send: Send, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send `error` as a whole answer."""
    body = error.body()
    fixed = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.retry_after_s is not None:
        fixed.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.status == 401:
        fixed.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> HeaderList:
    """Return those of llama-server's headers that a client gets."""
    return [
        (name, value)
        for name, value in ((name.lower(), value) for name, value in headers)
        if name not in _DROPPED and not name.startswith(b"access-control-")
    ]
