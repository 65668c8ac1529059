"""One HTTP/1.1 connection to llama-server: a request at a time, its answer parsed by httptools as it comes.

Nothing here has a deadline: whoever waits sets one, and ends the wait by cancelling it and closing the connection.
Closing is also how llama-server is told to stop working on an answer.
"""

import asyncio
import time
from typing import cast

import httptools

HELD_BYTES = 64 * 1024  # of an answer that nobody took yet; more, and the connection is read no further
Headers = list[tuple[bytes, bytes]]


class BrokenError(Exception):
    """The connection failed, ended early, or did not speak HTTP."""


class Connection(asyncio.Protocol):
    """The answer under way: `status` and `headers` after `head`, then `read` until it gives nothing."""

    __slots__ = (
        "_chunks", "_complete", "_failure", "_held", "_loop", "_parser", "_paused", "_reusable", "_transport",
        "_waiter", "headers", "heard", "idle_since", "port", "status",
    )  # fmt: skip

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 0
        self.headers: Headers = []
        self.heard = False  # a byte of this answer came
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BrokenError | None = None
        self._chunks: list[bytes] = []
        self._held = 0
        self._paused = False
        self._complete = True
        self._reusable = False

    def ask(self, request: bytes) -> None:
        """Send a whole request."""
        if self._transport is None or self._failure is not None:
            raise BrokenError("the connection is closed")
        self.heard = self._complete = False
        self._transport.write(request)

    async def head(self) -> None:
        """Wait until `status` and `headers` are known.

        Raises:
            BrokenError: They never will be.
        """
        while not self.status:
            await self._more()

    async def read(self) -> bytes:
        """Return what came of the body since the last call, waiting for it; nothing at its end.

        Raises:
            BrokenError: The answer ended early.
        """
        while not self._chunks:
            if self._complete:
                return b""
            await self._more()
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def read_all(self) -> bytes:
        """Return the rest of the body."""
        parts = []
        while part := await self.read():
            parts.append(part)
        return b"".join(parts)

    def rest(self) -> bool:
        """Make ready for the next request; False if the connection cannot take one."""
        usable = self._complete and not self._chunks and self._failure is None and self._reusable
        self.status = 0
        self.headers = []
        self.idle_since = time.monotonic()
        return usable

    @property
    def ended(self) -> bool:
        """Whether `read` would give nothing more."""
        return self._complete and not self._chunks

    @property
    def open(self) -> bool:
        """Whether a request may still be sent."""
        return self._failure is None

    def close(self) -> None:
        """Close it now; an answer under way is given up."""
        if self._failure is None:
            self._failure = BrokenError("closed")
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

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        """Parse what came, and wake the reader once for all of it."""
        self.heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._failure = BrokenError(f"not an HTTP answer: {error}")
            self.close()
        if self._held > HELD_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits."""
        if self._failure is None:
            self._failure = BrokenError(str(exc or "llama-server closed the connection"))
        self._wake()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Set the status, which is what `head` waits for."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._chunks.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        """Note the end."""
        self._complete = True
        self._reusable = self._parser.should_keep_alive()  # known here only
