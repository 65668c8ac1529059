"""The client of the gpu-server's benchmark: it does next to nothing, so that what is measured is not itself."""

import asyncio
import json
import time
from typing import Any

ROUND_TIMEOUT_S = 120
LENGTH = b"\r\ncontent-length: "


class Client(asyncio.Protocol):
    """One connection; looks at no more of an answer than is needed to find its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport: Any = transport

    async def ask(self, request: bytes) -> None:
        """Send one request and wait for the end of its answer."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.head = self.tail = b""
        self.left: int | None = None  # bytes to come, of an answer that says how many
        self.transport.write(request)
        await self.done

    def data_received(self, data: bytes) -> None:
        """Look for the end."""
        if not self.tail:
            self.head += data
            head, found, data = self.head.partition(b"\r\n\r\n")
            if not found:
                return
            head = head.lower()
            if b" 200 " not in head[:20]:
                self.done.set_exception(RuntimeError(f"a request failed: {self.head!r}"))
                return
            if LENGTH in head:
                self.left = int(head.partition(LENGTH)[2].partition(b"\r\n")[0])
        self.tail = (self.tail + data)[-5:] or b" "
        if self.left is not None:
            self.left -= len(data)
        if self.left == 0 or (self.left is None and self.tail == b"0\r\n\r\n"):
            self.done.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        """Fail the request under way."""
        if hasattr(self, "done") and not self.done.done():
            self.done.set_exception(ConnectionError("the connection was closed"))


async def load(
    port: int, path: str, body: dict[str, object], connections: int, requests: int, key: str = ""
) -> list[float]:
    """Send `requests` requests over each of so many connections; return the time of each, in s."""
    text = json.dumps(body, separators=(",", ":"))
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n"
    head += (f"authorization: Bearer {key}\r\n" if key else "") + "\r\n"
    request = (head + text).encode()
    times: list[float] = []

    async def work() -> None:
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
        for _ in range(requests):
            began = time.perf_counter()
            await client.ask(request)
            times.append(time.perf_counter() - began)
        client.transport.close()

    async with asyncio.timeout(ROUND_TIMEOUT_S), asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(work())
    return times
