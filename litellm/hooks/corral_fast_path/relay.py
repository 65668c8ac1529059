"""Sends an answer to the client as it comes from the server, and says how that ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from enum import Enum
from typing import Any

from corral_fast_path.departure import Departure
from corral_fast_path.events import EventStream
from corral_fast_path.upstream import Answer, Broken

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


log = logging.getLogger("corral.fast_path")


class End(Enum):
    """How an answer ended."""

    WHOLE = "whole"
    DEPARTED = "the client has gone"
    BROKEN_OFF = "the server broke off"


async def relay(
    answer: Answer,
    stream: EventStream,
    headers: Headers,
    send: Send,
    send_middle: Send,
    departure: Departure,
    release: Callable[[], Awaitable[None]],
    cut_off: bytes,
) -> tuple[End, str]:
    """Pass a stream on, event by event.

    Args:
        answer: of the server, with its first bytes.
        stream: reads along.
        headers: of the answer to the client.
        send: see the ASGI specification.
        send_middle: the same, for what comes between the first event and the last.
        departure: of the client; the server is hung up on at once.
        release: frees what the request holds, before the client hears of the end: it may ask again at once. Called
            twice it does nothing.
        cut_off: the event that tells it that its stream is not whole.

    Returns:
        How it ended, and what is to be said about it.
    """
    departure.then(answer.close)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    reason = ""
    # In a task of its own: each token would wake all coroutines that wait for this one, some thirty.
    forwarding = asyncio.create_task(_forward(answer, stream, send, send_middle, release))
    try:
        await forwarding
    except Broken as error:
        reason = f"{type(error).__name__}: {error}"
    departure.then(None)
    answer.close()
    end = _end(stream, departure)
    await release()
    if end is End.BROKEN_OFF and not stream.error:
        reason = reason or "it ended its answer too early"
        log.warning("a server broke off in the middle of an answer: %s", reason)
        await send({"type": "http.response.body", "body": cut_off, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return end, "" if end is End.WHOLE else stream.error or reason


async def _forward(
    answer: Answer, stream: EventStream, send: Send, send_middle: Send, release: Callable[[], Awaitable[None]]
) -> None:
    ended = False
    data = answer.first
    while data:
        whole = stream.take(data)
        if stream.ended and not ended:
            ended = True
            await release()
        if whole:
            await send({"type": "http.response.body", "body": whole, "more_body": True})
            send = send_middle
        data = await answer.read()
    last = stream.rest()
    if stream.ended:
        await send({"type": "http.response.body", "body": last, "more_body": True})


def _end(stream: EventStream, departure: Departure) -> End:
    if stream.ended and not stream.error:
        return End.WHOLE  # even if the connection broke or the client left after that
    return End.DEPARTED if departure.happened else End.BROKEN_OFF


async def send_whole(status: int, body: bytes, headers: Headers, send: Send) -> None:
    """Send an answer that is not streamed."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
