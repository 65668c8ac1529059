"""The way to llama-server: one connection pool, the address of the present generation, and its small control reads."""

import json
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp

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

    def __init__(self, answer_timeout_s: float) -> None:
        self.port = 0
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=answer_timeout_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> "aiohttp.client._RequestContextManager":
        """Start a request; use with `async with`. No byte within the session's deadline raises TimeoutError."""
        return self._session.request(
            method, f"http://127.0.0.1:{self.port}{path}", data=body or None, headers=headers, allow_redirects=False
        )

    async def text(self, path: str, timeout_s: float) -> str | None:
        """Return the body of a 200 answer to a GET, None for any other answer or none in time."""
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.get(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
                return await answer.text() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError):
            return None

    async def document(self, path: str, timeout_s: float) -> Any:
        """As `text`, parsed as JSON."""
        text = await self.text(path, timeout_s)
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            return None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
