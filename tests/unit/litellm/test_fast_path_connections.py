"""Connections to servers: which are used again, how long they wait, and that they are read no faster than asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from corral_fast_path import pool
from corral_fast_path.connection import MOST_HELD
from corral_fast_path.pool import Pool

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Counts its connections, and keeps the requests."""

    def __init__(self, serve: Serve) -> None:
        self.connections = 0
        self._serve = serve

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # hung up on
        finally:
            writer.close()


@asynccontextmanager
async def running(serve: Serve) -> AsyncIterator[tuple[Server, str]]:
    server = Server(serve)
    listening = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    async with listening:
        yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/x?y=z"


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await request_of(reader)
        writer.write(WHOLE)


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def body_of(connections: Pool, url: str, timeout_s: float = 5) -> bytes:
    connection = await connections.post(url, {"X-A": "b"}, b"{}", timeout_s)
    body = b""
    while part := await connection.read():
        body += part
    connections.give_back(connection)
    return body


async def test_one_request_after_the_other_uses_one_connection() -> None:
    connections = Pool()
    async with running(answered) as (server, url):
        assert [await body_of(connections, url) for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 1
        connections.close()


async def test_what_a_server_is_sent() -> None:
    sent = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        sent = await request_of(reader)
        writer.write(WHOLE)

    async with running(serve) as (_, url):
        await body_of(Pool(), url)
    host = url.split("/")[2].encode()
    assert sent == b"POST /v1/x?y=z HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 2\r\nX-A: b\r\n\r\n{}"


async def test_a_request_that_meets_a_connection_being_closed_is_sent_on_another() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(WHOLE)
        if server.connections == 1:
            await request_of(reader)  # and hangs up on it

    connections = Pool()
    async with running(serve) as (server, url):
        assert [await body_of(connections, url) for _ in range(2)] == [b"ok", b"ok"]
        assert server.connections == 2
        connections.close()


async def test_a_connection_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEEPALIVE_S", 0.01)
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answered(reader, writer)
        finally:
            hung_up.set()

    async with running(serve) as (_, url):
        await body_of(Pool(), url)
        await asyncio.wait_for(hung_up.wait(), 5)


async def test_a_server_that_falls_silent_is_given_up() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        for byte in WHOLE[:-1]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.005)  # in all longer than the client waits for one
        await reader.read()

    async with running(serve) as (_, url):
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError, match=r"nothing for 0\.2 s"):
            await body_of(Pool(), url, 0.2)
        assert asyncio.get_running_loop().time() - began > 0.2 + 0.005 * len(WHOLE[:-1])


async def test_a_connection_is_read_no_faster_than_its_answer_is_taken() -> None:
    size = 32 << 20
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(bytes(1 << 20))
            await writer.drain()
            written += 1 << 20
        await reader.read()

    async with running(serve) as (_, url):
        connections = Pool()
        connection = await connections.post(url, {}, b"{}", 0.2)
        await asyncio.sleep(0.4)  # longer than a server may be silent: it is not the server that is slow
        assert written < size  # what the kernel's buffers hold is far less
        taken = longest = 0
        while part := await connection.read():
            taken += len(part)
            longest = max(longest, len(part))
        assert taken == size
        assert longest <= 2 * MOST_HELD + (1 << 18)  # and what one read of the socket gives
        connections.give_back(connection)
        connections.close()


@pytest.mark.parametrize(
    ("url", "headers", "said"),
    [
        ("http://127.0.0.1:1/v1", {"X-A": "b\r\nX-C: d"}, "line end"),
        ("ftp://127.0.0.1/v1", {}, "no address of a server"),
        ("http:///v1", {}, "no address of a server"),
    ],
)
async def test_what_cannot_be_sent(url: str, headers: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        await Pool().post(url, headers, b"", 1)


class Pieces:
    """A body in pieces, which counts what is taken of it."""

    def __init__(self, size: int) -> None:
        self.length = size
        self.taken = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        self.taken = 0
        while self.taken < self.length:
            self.taken += 1 << 16
            yield bytes(1 << 16)


async def test_a_body_in_pieces_goes_no_faster_than_the_server_reads_and_ends_when_it_has_answered() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(WHOLE.replace(b"200 OK", b"413 Content Too Large"))
        await writer.drain()
        await asyncio.sleep(0.2)

    connections, body = Pool(), Pieces(64 << 20)
    async with running(serve) as (server, url):
        connection = await connections.post(url, {}, body, 5)
        assert connection.answer.status == 413
        assert body.taken < body.length
        connections.give_back(connection)
        assert not connection.is_reusable
        assert server.connections == 1


async def test_a_body_in_pieces_arrives_whole() -> None:
    received = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received = len(await request_of(reader))
        writer.write(WHOLE)
        await reader.read()

    connections = Pool()
    async with running(serve) as (_, url):
        connection = await connections.post(url, {}, Pieces(4 << 20), 5)
        connections.give_back(connection)
        connections.close()
    assert received > 4 << 20
