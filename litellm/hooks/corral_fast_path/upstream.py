"""The connection to the servers: one request, its answer up to the first byte, and LiteLLM's errors for what can fail.

Which exception a failure becomes decides what LiteLLM's router does next: whether it tries another server, and whether
it lets this one rest.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
import httpx

import litellm
from corral_fast_path.tokens import json_object

EVENTS = "text/event-stream"
_EVENT_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_ENOUGH = 6
"""Bytes that tell events from JSON."""

CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 15.0
"""Well below the 75 s after which a gpu-server closes an idle connection: a request never meets one being closed."""
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

Broken = (aiohttp.ClientError, TimeoutError, OSError)
"""What a connection to a server may raise."""

_session: aiohttp.ClientSession | None = None


def session() -> aiohttp.ClientSession:
    """Return this process's connections to all servers."""
    global _session
    if _session is None or _session.closed:
        _session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            auto_decompress=False,  # the bytes go on as they are
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        )
    return _session


class Answer:
    """What one attempt at a server has brought: its headers and its first bytes, or the whole body.

    LiteLLM's router passes it on as it passes its own answers, and writes into `_hidden_params` what it knows.
    """

    def __init__(self, response: aiohttp.ClientResponse, first: bytes, document: dict[str, Any] | None) -> None:
        self.status = response.status
        self.headers = response.headers
        self.first = first
        """The first bytes of a stream; all of a body that is not streamed."""
        self.document = document
        """The JSON of a body that is not streamed; None for a stream."""
        self._response = response
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

    async def data(self) -> AsyncIterator[bytes]:
        """The bytes of a stream, as they come.

        Raises:
            aiohttp.ClientError, TimeoutError, OSError: if the server breaks off.
        """
        yield self.first
        async for data in self._response.content.iter_any():
            yield data

    def close(self) -> None:
        """Hang up, if the server has not finished; what waits for its next bytes gets an error."""
        self._response.close()


async def ask(
    url: str, body: bytes, headers: Mapping[str, str], *, may_stream: bool, timeout_s: float | None
) -> Answer:
    """Send a request to a server, and wait for the first bytes of its answer, or all of one that is no stream.

    Args:
        url: where to.
        body: JSON.
        headers: with the key and the kind of the body.
        may_stream: whether there are streams at this address. Whether this answer is one, its first bytes say: a
            server may call it anything.
        timeout_s: how long the first byte may take, and each later one.

    Raises:
        ServerError: if the server answers with an error, or with nothing that can be an answer.
        aiohttp.ClientError, TimeoutError, OSError: if it does not answer.
    """
    patience = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=timeout_s)
    response = await session().post(url, data=body, headers=headers, timeout=patience, allow_redirects=False)
    try:
        return await _read(response, may_stream=may_stream)
    except BaseException:
        response.close()
        raise


async def _read(response: aiohttp.ClientResponse, *, may_stream: bool) -> Answer:
    if response.status != HTTPStatus.OK:
        raise ServerError(response, await _at_most(response, MOST_OF_AN_ERROR))
    first = await _first(response) if may_stream else b""
    if first.lstrip().startswith(_EVENT_STARTS):
        return Answer(response, first, None)
    whole = first + await response.read()
    document = json_object(whole)
    if document is None or document.get("error"):
        raise ServerError(response, whole[:MOST_OF_AN_ERROR])
    return Answer(response, whole, document)


async def _first(response: aiohttp.ClientResponse) -> bytes:
    first = b""
    while len(first.lstrip()) < _ENOUGH and (more := await response.content.readany()):
        first += more
    return first


async def _at_most(response: aiohttp.ClientResponse, size: int) -> bytes:
    body = b""
    while len(body) < size and (more := await response.content.read(size - len(body))):
        body += more
    return body


class ServerError(Exception):
    """A server's answer that is an error; the client gets it as it is."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        super().__init__(f"status {response.status}")
        self.status = response.status
        self.headers = response.headers
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
    elif isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
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
