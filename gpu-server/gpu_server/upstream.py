"""The way to llama-server: a pool of connections to the address of the present generation, and small control reads."""

import asyncio
import json
import socket
import time
from types import TracebackType
from typing import Any

from gpu_server.http1 import BrokenError, Connection, Headers

CONNECT_TIMEOUT_S = 5.0
# llama-server closes idle connections after 5 s; closing first spares a request that would meet that moment.
_KEEPALIVE_S = 3.0


def free_port() -> int:
    """Return a TCP port that nothing on the loopback uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Upstream:
    """llama-server's HTTP side; `port` changes with every generation."""

    def __init__(self) -> None:
        self.port = 0
        self._idle: list[Connection] = []

    def request(self, method: str, path: str, headers: Headers, body: bytes) -> "Request":
        """Ask; `async with` gives the connection when the answer's head is there.

        Leaving the block early closes the connection, which makes llama-server drop the work. Only connecting has a
        deadline (CONNECT_TIMEOUT_S); the caller bounds the rest. A failed connection raises BrokenError.
        """
        lines = [b"%s %s HTTP/1.1\r\nhost: 127.0.0.1\r\n" % (method.encode(), path.encode())]
        lines += [b"%s: %s\r\n" % header for header in headers]
        if method != "GET":
            lines.append(b"content-length: %d\r\n" % len(body))
        return Request(self, b"".join([*lines, b"\r\n", body]))

    async def text(self, path: str, timeout_s: float) -> str | None:
        """Return the body of a 200 answer to a GET, None for any other answer or none in time."""
        try:
            async with asyncio.timeout(timeout_s), self.request("GET", path, [], b"") as answer:
                body = await answer.read_all()
                return body.decode() if answer.status == 200 else None
        except (BrokenError, TimeoutError, UnicodeDecodeError):
            return None

    async def document(self, path: str, timeout_s: float) -> Any:
        """As `text`, parsed as JSON."""
        text = await self.text(path, timeout_s)
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            return None

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def take(self) -> Connection | None:
        """Return a connection that is open and idle, if there is one; closes those that are idle for too long."""
        since = time.monotonic() - _KEEPALIVE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.open and connection.port == self.port and connection.idle_since > since:
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep `connection` for the next request if its answer is complete, else close it."""
        if connection.rest() and connection.port == self.port:
            self._idle.append(connection)
        else:
            connection.close()

    async def connect(self) -> Connection:
        """Open a connection.

        Raises:
            BrokenError: Nothing listens there, or it does not accept in time.
        """
        port = self.port
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(port), "127.0.0.1", port
                )
        except (OSError, TimeoutError) as error:
            raise BrokenError(f"no connection to llama-server: {error}") from None
        return connection


class Request:
    """One request on its way; made by `Upstream.request`."""

    __slots__ = ("_bytes", "_connection", "_upstream")

    def __init__(self, upstream: Upstream, request: bytes) -> None:
        self._upstream = upstream
        self._bytes = request
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        pooled = self._upstream.take()
        if pooled is not None:
            try:
                return await self._ask(pooled)
            except BrokenError:
                if pooled.heard:
                    raise
                # llama-server closed it for idleness in the moment we took it: it never saw the request.
        return await self._ask(await self._upstream.connect())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._upstream.give_back(self._connection)

    async def _ask(self, connection: Connection) -> Connection:
        try:
            connection.ask(self._bytes)
            await connection.head()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection
