"""The HTTP client to llama-server: reuse, early ends, backpressure."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gpu_server.http1 import HELD_BYTES, BrokenError
from gpu_server.upstream import Upstream
from support.waiting import wait_until_async

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@asynccontextmanager
async def upstream_to(handler: Handler) -> AsyncIterator[Upstream]:
    """An `Upstream` to a server whose connections `handler` serves."""
    ends: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        await handler(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = Upstream()
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        upstream.close()
        for writer in ends:
            writer.transport.abort()
        server.close()


def answering(*answers: bytes, then_close: bool = False) -> tuple[Handler, list[bytes]]:
    """A handler that gives each request of a connection the next of `answers`, and the requests it got."""
    requests: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            try:
                requests.append(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                return
            writer.write(answer)
        if then_close:
            writer.close()

    return handler, requests


async def get(upstream: Upstream) -> tuple[int, bytes, object]:
    async with asyncio.timeout(5), upstream.request("GET", "/x", [(b"a", b"b")], b"") as answer:
        return answer.status, await answer.read_all(), answer


async def test_a_connection_is_used_again_and_the_request_is_well_formed() -> None:
    handler, requests = answering(OK, OK)
    async with upstream_to(handler) as upstream:
        first, second = await get(upstream), await get(upstream)
    assert first[:2] == second[:2] == (200, b"hi")
    assert first[2] is second[2]
    assert requests == [b"GET /x HTTP/1.1\r\nhost: 127.0.0.1\r\na: b\r\n\r\n"] * 2


async def test_a_connection_that_was_closed_meanwhile_costs_no_request() -> None:
    handler, requests = answering(OK, then_close=True)
    async with upstream_to(handler) as upstream:
        for _ in range(3):
            assert (await get(upstream))[0] == 200
    assert len(requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
async def test_an_answer_that_ends_early_is_broken(answer: bytes) -> None:
    handler, _ = answering(answer, then_close=True)
    async with upstream_to(handler) as upstream:
        with pytest.raises(BrokenError):
            await get(upstream)
        assert await upstream.text("/x", 5) is None


async def test_nothing_listening_is_broken() -> None:
    async with upstream_to(answering()[0]) as upstream:
        upstream.port = 1
        with pytest.raises(BrokenError):
            await get(upstream)


async def test_leaving_an_answer_closes_its_connection() -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await reader.read()
        closed.set()

    async with upstream_to(handler) as upstream, asyncio.timeout(5):
        async with upstream.request("POST", "/x", [], b"{}") as answer:
            assert await answer.read() == b"hi"
        await closed.wait()


async def test_an_answer_that_nobody_reads_is_not_kept_without_bound() -> None:
    sent = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 100_000)
            sent += 100_000
            await writer.drain()

    looks: list[int] = []

    async def held_up() -> bool:
        looks.append(sent)
        return len(looks) > 2 and looks[-3] == sent > 0

    async with upstream_to(handler) as upstream, asyncio.timeout(30), upstream.request("GET", "/x", [], b"") as answer:
        await wait_until_async(held_up, 10, "the sender to be held up")
        first = await answer.read()
        assert len(first) < HELD_BYTES + 512 * 1024
        assert sent < 50_000_000
        assert len(first) + len(await answer.read_all()) == 100_000_000


async def test_a_control_read_has_a_deadline() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with upstream_to(silent) as upstream:
        assert await upstream.document("/slots", 0.1) is None
