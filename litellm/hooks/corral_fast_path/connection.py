"""One connection to a server: a request at a time, with one timer for all of an answer.

It is read no faster than its answer is taken. Closing it is how a server is told to stop its work.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol, cast

from corral_fast_path.http1 import AnswerParser

MOST_HELD = 64 << 10
"""Bytes of an answer that nobody has taken, above which the connection is read no further."""


class Origin(NamedTuple):
    """Where a server listens."""

    host: str
    port: int
    tls: bool


class Pieces(Protocol):
    """A body that is not in memory."""

    @property
    def length(self) -> int:
        """Return its length in bytes."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Give its bytes, from the start each time this is called."""


class Connection(asyncio.Protocol):
    """One connection. `answer` is that of the request under way: its status and headers are there after `head`."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.answer = AnswerParser()
        self.heard = False
        """Whether a byte has come since the request was sent."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._failure: OSError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._data: list[bytes] = []
        self._held = 0
        self._paused = False
        self._full = False
        self._sent = True
        self._patience_s = 0.0
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, head: bytes, body: "bytes | Pieces", timeout_s: float | None) -> None:
        """Send a request. A server that answers before it has all of a body in pieces gets no more of it.

        Args:
            head: of the request, with its blank line.
            body: of the request.
            timeout_s: how long the first byte of the answer may take, and each later one; and how long the server may
                take nothing of a body in pieces.

        Raises:
            OSError: the connection is closed.
        """
        self.heard = False
        if self._transport is None or self._failure is not None:
            raise self._failure or ConnectionResetError("the connection is closed")
        self.answer = AnswerParser()
        self._patience_s, self._last = timeout_s or 0.0, self._loop.time()
        if timeout_s:
            self._timer = self._loop.call_later(timeout_s, self._look_at_clock)
        if isinstance(body, bytes):
            self._transport.writelines((head, body))
            return
        self._sent = False
        self._transport.write(head)
        async for piece in body.pieces():
            while self._full and not self.answer.status:
                await self._more()
            if self.answer.status:
                return
            if self._failure is not None:
                raise self._failure
            self._transport.write(piece)
            self._last = self._loop.time()
        self._sent = True

    async def head(self) -> None:
        """Wait for status and headers.

        Raises:
            OSError: they do not come; `TimeoutError` if not in time.
        """
        while not self.answer.status:
            await self._more()

    async def read(self) -> bytes:
        """Return what has come of the body since the last call; wait for it if nothing has. Nothing at its end.

        Raises:
            OSError: the answer is cut off; `TimeoutError` if nothing came in time.
        """
        while not self._data:
            if self.answer.ended:
                return b""
            await self._more()
        data = self._data[0] if len(self._data) == 1 else b"".join(self._data)
        self._data.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused, self._last = False, self._loop.time()
            self._transport.resume_reading()
        return data

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent."""
        sent = self._sent and self._transport is not None and not self._transport.get_write_buffer_size()
        return sent and self._failure is None and self.answer.ended and self.answer.keeps_alive and not self._data

    def close(self) -> None:
        """Hang up; who waits for an answer gets an error."""
        self._fail(ConnectionAbortedError("the connection was closed from here"))
        if self._transport is not None:
            self._transport.abort()

    async def _more(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, failure: OSError) -> None:
        self._failure = self._failure or failure
        self._stop_timer()
        self._wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at_clock(self) -> None:
        """Give up on a server that has been silent too long; else look again when it may have been."""
        now = self._loop.time()
        since = now if self._paused else self._last  # what is not read cannot be late
        if since + self._patience_s <= now:
            self._timer = None
            self._fail(TimeoutError(f"the server sent nothing for {self._patience_s:g} s"))
            self.close()
        else:
            self._timer = self._loop.call_at(since + self._patience_s, self._look_at_clock)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        """Take the body's bytes out of what came, and wake who waits for them."""
        self.heard, self._last = True, self._loop.time()
        try:
            body = self.answer.feed(data)
        except OSError as error:
            self._fail(error)
            self.close()
            return
        if body:
            self._data.append(body)
            self._held += len(body)
            if self._held > MOST_HELD and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
        if self.answer.ended:
            self._stop_timer()
        self._wake()

    def pause_writing(self) -> None:
        """Note that the server is slow to take a request."""
        self._full = True

    def resume_writing(self) -> None:
        """Go on with sending it."""
        self._full = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits, unless this is how the answer ends."""
        if exc is None and self._failure is None:  # closed by the server
            self.answer.feed_end()
        lost = exc if isinstance(exc, OSError) else ConnectionResetError("the server closed the connection")
        self._fail(lost)
