"""The benchmark's client: many connections in one process; looks at the times in what comes, and at little else."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gate_bench.fake import SENT_AT

ROUND_TIMEOUT_S = 180
TRIES = 5
LOOK_S = 0.05
AGAIN_S = 1.0
"""After a 503, which says `please retry shortly`: LiteLLM's, when it cannot ask its database in time."""
LENGTH = b"\r\ncontent-length: "
MESSAGES = [{"role": "user", "content": "Name a colour."}]


@dataclass
class Seen:
    """What clients saw in a round: all in s.

    Attributes:
        wall: the whole round.
        answers: each request, from its sending to its end.
        first: each stream, from its sending to its first token.
        delays: each token, from its sending by the server to its arrival.
        sent: each token, when it was; in ns of the monotonic clock, which all processes share, as below.
        begun: each stream, when its first token came.
        last: each stream, when its last token was sent.
        middle: CPU that the gate took, in s, and tokens that came, from when all streams had begun until one ended.
        refused: how many requests were answered with 503 and asked again; their times are those of the last try.
    """

    wall: float = 0.0
    answers: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    middle: tuple[float, int] | None = None
    refused: int = 0

    def delays_by_time(self) -> tuple[list[float], list[float]]:
        """Return the delays of tokens sent before all streams had begun, and of those sent while all were under way."""
        begun, ended = max(self.begun, default=0), min(self.last, default=0)
        both = list(zip(self.sent, self.delays, strict=True))
        return [delay for sent, delay in both if sent < begun], [delay for sent, delay in both if begun <= sent < ended]


class _RefusedError(Exception):
    """An answer that asks to be asked again."""


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport: Any = transport

    async def ask(self, request: bytes) -> None:
        """Send one request and wait for the end of its answer."""
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = self._tail = b""
        self._left: int | None = None
        self._told = 0
        self._began = time.monotonic_ns()
        self.transport.write(request)
        await self._done
        self._seen.answers.append((time.monotonic_ns() - self._began) / 1e9)
        if self._told:
            self._seen.last.append(self._told)

    def data_received(self, data: bytes) -> None:
        """Take the times, and look for the end."""
        now = time.monotonic_ns()
        if not self._tail:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            head = head.lower()
            if b" 200 " not in head[:20]:
                said = f"a request failed: {self._head[:2000]!r}"
                refused = b" 503 " in head[:20]
                self._done.set_exception(_RefusedError(said) if refused else RuntimeError(said))
                self.transport.abort()
                return
            if LENGTH in head:
                self._left = int(head.partition(LENGTH)[2].partition(b"\r\n")[0])
        for sent in map(int, SENT_AT.findall(data)):
            if not self._told:
                self._seen.first.append((now - self._began) / 1e9)
                self._seen.begun.append(now)
            self._told = sent
            self._seen.delays.append((now - sent) / 1e9)
            self._seen.sent.append(sent)
        self._tail = (self._tail + data)[-5:] or b" "
        if self._left is not None:
            self._left -= len(data)
        if self._left == 0 or (self._left is None and self._tail == b"0\r\n\r\n"):
            self._done.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        """Fail the request under way."""
        if hasattr(self, "_done") and not self._done.done():
            self._done.set_exception(ConnectionError("the connection was closed"))


async def ask(
    port: int, key: str, body: dict[str, Any], connections: int, requests: int, cpu_s: Callable[[], float],
    rest_s: float = 0.0,
) -> Seen:  # fmt: skip
    """Send `requests` chats over each of so many connections, with a rest after each.

    Args:
        port: of the gate.
        key: for it.
        body: of the request, beside model and messages.
        connections: at a time.
        requests: one after the other, over each.
        cpu_s: gives the CPU time that the gate has used, in s.
        rest_s: in which a gate writes its logs.
    """
    text = json.dumps({"model": "chat", "messages": MESSAGES, **body}, separators=(",", ":"))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    request = (head + text).encode()
    seen = Seen()

    async def connected() -> _Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(lambda: _Connection(seen), "127.0.0.1", port))[1]

    async def work() -> None:
        connection = await connected()
        for _ in range(requests):
            for left in reversed(range(TRIES)):
                try:
                    await connection.ask(request)
                    await asyncio.sleep(rest_s)
                    break
                except _RefusedError:
                    if not left:
                        raise
                    seen.refused += 1
                    await asyncio.sleep(AGAIN_S)
                    connection = await connected()
        connection.transport.close()

    began = time.monotonic()
    async with asyncio.timeout(ROUND_TIMEOUT_S), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch_middle(seen, connections, cpu_s))
        await asyncio.gather(*(tasks.create_task(work()) for _ in range(connections)))
        watching.cancel()
    seen.wall = time.monotonic() - began
    return seen


async def _watch_middle(seen: Seen, streams: int, cpu_s: Callable[[], float]) -> None:
    began: tuple[float, int] | None = None
    while not seen.last:
        if began is not None:
            seen.middle = cpu_s() - began[0], len(seen.sent) - began[1]
        elif len(seen.begun) == streams:
            began = cpu_s(), len(seen.sent)
        await asyncio.sleep(LOOK_S)
