"""The connection to the servers: one request, its answer up to the first byte, and LiteLLM's errors for what can fail.

Which exception a failure becomes decides what LiteLLM's router does next: whether it tries another server, and whether
it lets this one rest.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx

import litellm
from corral_fast_path.connection import Connection, Pieces
from corral_fast_path.pool import Pool
from corral_fast_path.tokens import json_object

EVENTS = "text/event-stream"
_EVENT_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_ENOUGH = 6
"""Bytes that tell events from JSON."""

MOST_OF_AN_ERROR = 64 << 10
"""Bytes of a server's error that a client is given."""

_ERRORS: Mapping[int, Any] = {
    400: litellm.BadRequestError,
    401: litellm.AuthenticationError,
    403: litellm.PermissionDeniedError,
    404: litellm.NotFoundError,
    422: litellm.UnprocessableEntityError,
    429: litellm.RateLimitError,
    500: litellm.InternalServerError,
    503: litellm.ServiceUnavailableError,
}

Broken = OSError
"""What a connection to a server may raise; `TimeoutError` is one."""

connections = Pool()
"""This process's connections to all servers."""


class Answer:
    """What one attempt at a server has brought: its headers and its first bytes, or the whole body.

    LiteLLM's router passes it on as it passes its own answers, and writes into `_hidden_params` what it knows.
    """

    def __init__(self, connection: Connection, first: bytes, document: dict[str, Any] | None) -> None:
        self.status = connection.answer.status
        self.headers = connection.answer.headers
        self.first = first
        """The first bytes of a stream; all of a body that is not streamed."""
        self.document = document
        """The JSON of a body that is not streamed; None for a stream."""
        self._connection: Connection | None = connection
        self._hidden_params: dict[str, Any] = {}

    @property
    def content_type(self) -> str:
        """What the body is, whatever the server calls it."""
        named = self.headers.get("Content-Type", "")
        if named.lower().startswith(EVENTS) == (self.document is None) and named:
            return named
        return EVENTS if self.document is None else "application/json"

    @property
    def hidden(self) -> dict[str, Any]:
        """What LiteLLM keeps about an answer: where it came from, headers."""
        return self._hidden_params

    async def read(self) -> bytes:
        """Return what has come of a stream since its first bytes or the last call; nothing at its end.

        Raises:
            OSError: if the server breaks off.
        """
        return await self._connection.read() if self._connection is not None else b""

    def close(self) -> None:
        """Hang up, if the server has not finished; who waits for its next bytes gets an error. Twice does no harm."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connections.give_back(connection)


async def ask(
    url: str, body: bytes | Pieces, headers: Mapping[str, str], *, may_stream: bool, timeout_s: float | None
) -> Answer:
    """Send a request to a server, and wait for the first bytes of its answer, or all of one that is no stream.

    Args:
        url: where to.
        body: JSON, or a form.
        headers: with the key and the kind of the body.
        may_stream: whether there are streams at this address. Whether this answer is one, its first bytes say: a
            server may call it anything.
        timeout_s: how long the first byte may take, and each later one.

    Raises:
        ServerError: if the server answers with an error, or with nothing that can be an answer.
        OSError: if it does not answer.
    """
    connection = await connections.post(url, headers, body, timeout_s)
    try:
        answer = await _read(connection, may_stream=may_stream)
    except BaseException:
        connections.give_back(connection)
        raise
    if answer.document is not None:
        answer.close()
    return answer


async def _read(connection: Connection, *, may_stream: bool) -> Answer:
    if connection.answer.status != HTTPStatus.OK:
        raise ServerError(connection, await _at_most(connection, MOST_OF_AN_ERROR))
    first = await _first(connection) if may_stream else b""
    if first.lstrip().startswith(_EVENT_STARTS):
        return Answer(connection, first, None)
    parts = [first]
    while part := await connection.read():
        parts.append(part)
    whole = b"".join(parts)
    document = json_object(whole)
    if document is None or document.get("error"):
        raise ServerError(connection, whole[:MOST_OF_AN_ERROR])
    return Answer(connection, whole, document)


async def _first(connection: Connection) -> bytes:
    first = b""
    while len(first.lstrip()) < _ENOUGH and (more := await connection.read()):
        first += more
    return first


async def _at_most(connection: Connection, size: int) -> bytes:
    body = b""
    while len(body) < size and (more := await connection.read()):
        body += more
    return body[:size]


class ServerError(Exception):
    """A server's answer that is an error; the client gets it as it is."""

    def __init__(self, connection: Connection, body: bytes) -> None:
        super().__init__(f"status {connection.answer.status}")
        self.status = connection.answer.status
        self.headers = connection.answer.headers
        self.body = body


def as_litellms(error: BaseException, model: str, provider: str, url: str) -> Exception:
    """Return the exception that LiteLLM's router knows for a failure; `ServerError` stays as its cause."""
    if isinstance(error, asyncio.CancelledError):
        return DepartedError("the client has gone before the first byte")
    known: Exception | None = None
    named = {"model": model, "llm_provider": provider}
    if isinstance(error, ServerError) and error.status < HTTPStatus.BAD_REQUEST:
        start = error.body[:200].decode("utf-8", "replace")
        message = f"the server answered with status {error.status} and no answer: {start!r}"
        known = litellm.InternalServerError(message=message, **named)
    elif isinstance(error, ServerError):
        message = error.body[:2000].decode("utf-8", "replace")
        if (kind := _ERRORS.get(error.status)) is not None:
            request = httpx.Request("POST", url)
            response = httpx.Response(error.status, headers=_plain(error.headers), content=error.body, request=request)
            known = kind(message=message, response=response, **named)
        else:
            known = litellm.APIError(status_code=error.status, message=message, **named)
    elif isinstance(error, TimeoutError):
        known = litellm.Timeout(message="the server sent nothing in time", **named)
    elif isinstance(error, Broken):  # litellm.APIConnectionError would never make a server rest
        message = f"the server cannot be reached: {type(error).__name__}: {error}"
        known = litellm.InternalServerError(message=message, **named)
    if known is not None:
        return known
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() != "content-encoding"}


class DepartedError(Exception):
    """The client has gone before its answer was whole. LiteLLM logs its status code."""

    status_code = 499


class BrokenOffError(Exception):
    """A server has broken off in the middle of a stream."""

    status_code = 502
