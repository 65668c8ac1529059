"""The connections to the servers: opened when needed, and kept for a while for the next request."""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from corral_fast_path.connection import Connection, Origin, Pieces

CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 15.0
"""Well below the 75 s after which a gpu-server closes an idle connection: a request seldom meets one being closed."""


class Pool:
    """The connections of this process that wait for a request."""

    def __init__(self) -> None:
        self._idle: defaultdict[Origin, list[tuple[Connection, asyncio.TimerHandle]]] = defaultdict(list)

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes | Pieces, timeout_s: float | None
    ) -> Connection:
        """Send a request, and return its connection when the head of the answer is there.

        Raises:
            ValueError: a header has a line end in it.
            OSError: there is no answer; `TimeoutError` if not in time.
        """
        origin, path, host = _parts(url)
        head = _head(path, host, headers, len(body) if isinstance(body, bytes) else body.length)
        if (kept := self._take(origin)) is not None:
            try:
                return await _ask(kept, head, body, timeout_s)
            except TimeoutError:
                raise
            except OSError:
                if kept.heard:
                    raise
                # The server closed it for idleness while the request was on its way, and has not seen it.
        return await _ask(await _connect(origin), head, body, timeout_s)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request if its answer is whole; else close it."""
        if not connection.is_reusable:
            connection.close()
            return
        entry = (connection, asyncio.get_running_loop().call_later(KEEPALIVE_S, connection.close))
        self._idle[connection.origin].append(entry)

    def close(self) -> None:
        """Close those that wait."""
        for entries in self._idle.values():
            for connection, timer in entries:
                timer.cancel()
                connection.close()
        self._idle.clear()

    def _take(self, origin: Origin) -> Connection | None:
        entries = self._idle[origin]
        while entries:
            connection, timer = entries.pop()
            timer.cancel()
            if connection.is_reusable:
                return connection
            connection.close()
        return None


async def _ask(connection: Connection, head: bytes, body: bytes | Pieces, timeout_s: float | None) -> Connection:
    try:
        await connection.send(head, body, timeout_s)
        await connection.head()
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(origin: Origin) -> Connection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(
                lambda: Connection(origin), origin.host, origin.port, ssl=_tls() if origin.tls else None
            )
    except TimeoutError:
        raise ConnectionError(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
    return connection


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@lru_cache(maxsize=4096)
def _parts(url: str) -> tuple[Origin, str, str]:
    """Return where a URL leads, its path with its query, and what the Host header has to say."""
    split = urlsplit(url)
    tls = split.scheme == "https"
    if split.scheme not in ("http", "https") or not split.hostname:
        raise ValueError(f"{url!r} is no address of a server")
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    return Origin(split.hostname, split.port or (443 if tls else 80), tls), path, split.netloc.rpartition("@")[2]


def _head(path: str, host: str, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    if text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1:
        raise ValueError("a header for the server has a line end in it")
    return f"{text}\r\n\r\n".encode()
