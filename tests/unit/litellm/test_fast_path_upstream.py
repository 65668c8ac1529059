"""Servers that lie, hang, break off or are not there, and what LiteLLM's router is told of each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

import litellm
from corral_fast_path import upstream
from corral_fast_path.departure import Departure
from corral_fast_path.events import EventStream
from corral_fast_path.relay import End, relay
from corral_fast_path.upstream import MOST_OF_AN_ERROR, ServerError, as_litellms, ask
from support.ports import free_port

JSON = b'{"id": "a", "choices": []}'
EVENT = b'data: {"id": "a", "choices": []}\n\n'
EVENTS = EVENT + b"data: [DONE]\n\n"
CUT_OFF = b"data: cut off\n\n"


def http(body: bytes, status: str = "200 OK", kind: str = "application/json", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode() + body


@asynccontextmanager
async def server(answer: bytes | None, *more: bytes, hangs_up: bool = True) -> AsyncIterator[str]:
    """A server that answers with these bytes and hangs up; None hangs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()
        else:
            for part in (answer, *more):
                writer.write(part)
                await writer.drain()
            if not hangs_up:
                await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/chat/completions"


@pytest_asyncio.fixture(autouse=True)
async def _own_connections() -> AsyncIterator[None]:
    yield
    upstream.connections.close()


async def answer_of(url: str, timeout_s: float = 5) -> upstream.Answer:
    return await ask(url, b"{}", {}, may_stream=True, timeout_s=timeout_s)


async def all_of(answer: upstream.Answer) -> bytes:
    whole = answer.first
    while data := await answer.read():
        whole += data
    return whole


async def failure_of(url: str, timeout_s: float = 5) -> Exception:
    try:
        await answer_of(url, timeout_s)
    except Exception as error:
        return as_litellms(error, "hosted_vllm/m", "hosted_vllm", url)
    raise AssertionError("it answered")


async def test_json_that_is_called_events_is_json() -> None:
    async with server(http(JSON, kind="text/event-stream")) as url:
        answer = await answer_of(url)
    assert (answer.first, answer.document, answer.content_type) == (
        JSON,
        {"id": "a", "choices": []},
        "application/json",
    )


async def test_events_that_are_called_json_are_events() -> None:
    async with server(http(EVENTS)) as url:
        answer = await answer_of(url)
        assert await all_of(answer) == EVENTS
    assert (answer.document, answer.content_type) == (None, "text/event-stream")


async def test_events_whose_first_byte_comes_alone_are_events() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    async with server(head + EVENTS[:1], EVENTS[1:]) as url:
        answer = await answer_of(url)
        assert await all_of(answer) == EVENTS


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (http(b"<html>"), litellm.InternalServerError),
        (http(b""), litellm.InternalServerError),
        (http(b"[]"), litellm.InternalServerError),
        (http(b'{"error": {"message": "no"}}'), litellm.InternalServerError),
        (http(JSON[:5]), litellm.InternalServerError),
        (http(JSON, length=1000), litellm.InternalServerError),
        (http(b"", status="302 Found\r\nLocation: http://127.0.0.1/"), litellm.InternalServerError),
        (b"", litellm.InternalServerError),
        (b"SSH-2.0-OpenSSH\r\n", litellm.InternalServerError),
        (http(b"{}", status="400 Bad Request"), litellm.BadRequestError),
        (http(b"{}", status="401 Unauthorized"), litellm.AuthenticationError),
        (http(b"{}", status="429 Too Many Requests"), litellm.RateLimitError),
        (http(b"{}", status="500 Internal Server Error"), litellm.InternalServerError),
        (http(b"{}", status="503 Service Unavailable"), litellm.ServiceUnavailableError),
        (http(b"{}", status="413 Content Too Large"), litellm.APIError),
        (http(b"{}", status="504 Gateway Timeout"), litellm.APIError),
    ],
)
async def test_what_is_no_answer(said: bytes, kind: type[Exception]) -> None:
    async with server(said) as url:
        assert type(await failure_of(url)) is kind


async def test_a_server_that_is_not_there() -> None:
    failure = await failure_of(f"http://127.0.0.1:{free_port()}/v1")
    assert type(failure) is litellm.InternalServerError  # it must rest; for litellm.APIConnectionError it would not


async def test_a_server_that_says_nothing() -> None:
    async with server(None) as url:
        assert type(await failure_of(url, timeout_s=0.1)) is litellm.Timeout


async def test_an_endless_error_is_cut() -> None:
    async with server(http(b"x" * (2 << 20), status="500 Internal Server Error")) as url:
        with pytest.raises(ServerError) as failed:
            await answer_of(url)
    assert len(failed.value.body) == MOST_OF_AN_ERROR


async def test_when_to_ask_again_reaches_the_router() -> None:
    async with server(http(b"{}", status="429 Too Many Requests\r\nRetry-After: 7")) as url:
        failure = await failure_of(url)
    assert failure.response.headers["retry-after"] == "7"  # type: ignore[attr-defined]


# Passing a stream on


class Client:
    """Takes what is sent; hangs up when told to."""

    def __init__(self) -> None:
        self.body = b""
        self.whole = False
        self.released_before: bytes | None = None
        self.served_by: list[asyncio.Task[Any] | None] = []
        self._gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.served_by.append(asyncio.current_task())
        self.body += message.get("body", b"")
        self.whole = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def release(self) -> None:
        if self.released_before is None:
            self.released_before = self.body

    def leave(self) -> None:
        self._gone.set()


async def relayed(url: str, client: Client, during: Callable[[], Awaitable[None]] | None = None) -> tuple[End, str]:
    answer = await answer_of(url)
    departure = Departure(client.receive)
    stream = EventStream(end=(b"data: [DONE]",), hide_usage=True, keep=False)
    try:
        passing = asyncio.create_task(
            relay(answer, stream, [], client.send, client.send, departure, client.release, CUT_OFF)
        )
        if during is not None:
            await during()
        return await asyncio.wait_for(passing, 5)
    finally:
        departure.stop()
        answer.close()


async def test_a_whole_stream_and_its_place_is_free_before_the_client_hears_of_the_end() -> None:
    client = Client()
    async with server(http(EVENTS)) as url:
        assert await relayed(url, client) == (End.WHOLE, "")
    assert (client.body, client.whole) == (EVENTS, True)
    assert b"[DONE]" not in (client.released_before or b"")


async def test_a_piece_does_not_wake_all_that_wait_for_its_stream() -> None:
    client = Client()
    async with server(http(EVENTS)) as url:
        await relayed(url, client)
    head, *pieces, end = client.served_by
    assert pieces
    assert head is end
    assert all(piece is not head for piece in pieces)


async def test_a_request_that_is_cancelled_sends_no_more() -> None:
    client = Client()

    async def begun() -> None:
        while not client.body:
            await asyncio.sleep(0)
        if (request := client.served_by[0]) is not None:
            request.cancel()

    async with server(http(EVENT, length=5000), hangs_up=False) as url:
        with pytest.raises(asyncio.CancelledError):
            await relayed(url, client, begun)
    sender = client.served_by[-1]
    assert sender is not client.served_by[0]
    assert sender is not None
    assert sender.cancelled()


@pytest.mark.parametrize("rest", [b"", b'data: {"half'])
async def test_a_stream_that_breaks_off_ends_with_an_event_that_says_so(rest: bytes) -> None:
    client = Client()
    async with server(http(EVENT + rest, length=5000)) as url:
        end, reason = await relayed(url, client)
    assert (end, client.body, client.whole) == (End.BROKEN_OFF, EVENT + CUT_OFF, True)
    assert reason


async def test_a_stream_that_just_stops_is_not_whole() -> None:
    client = Client()
    async with server(http(EVENT + b'data: {"half')) as url:
        end, _ = await relayed(url, client)
    assert (end, client.body) == (End.BROKEN_OFF, EVENT + CUT_OFF)


async def test_a_connection_that_breaks_after_the_end_breaks_nothing() -> None:
    client = Client()
    async with server(http(EVENTS, length=5000)) as url:
        assert await relayed(url, client) == (End.WHOLE, "")
    assert client.body == EVENTS


async def test_a_servers_own_error_event_is_the_last() -> None:
    client = Client()
    said = EVENT + b'data: {"error": {"message": "out of tensors"}}\n\n'
    async with server(http(said)) as url:
        assert await relayed(url, client) == (End.BROKEN_OFF, "out of tensors")
    assert client.body == said


async def test_a_client_that_leaves_is_not_waited_for() -> None:
    client = Client()
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(EVENT, length=5000))
        await writer.drain()
        await reader.read()
        hung_up.set()
        writer.close()

    async def leave() -> None:
        while not client.body:
            await asyncio.sleep(0)
        client.leave()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        end, _ = await relayed(url, client, leave)
        await asyncio.wait_for(hung_up.wait(), 1)
    assert end is End.DEPARTED
