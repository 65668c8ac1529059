"""The data path: a plain ASGI endpoint that passes raw bytes between a client and llama-server.

A request waits for its slot, goes to llama-server with a clean set of headers, and its answer comes back byte for byte:
streams event by event as they come, other answers whole, so that one that breaks half-way can still become an error,
or be asked again of the next llama-server. The request is retried once if llama-server dies before a byte of the answer
went to the client.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

import aiohttp

from gpu_server.admission import Admission, QueueFullError
from gpu_server.body import ClientGoneError, Receive, check_json, read_body
from gpu_server.errors import ApiError, in_openai_shape
from gpu_server.exchange import Exchange
from gpu_server.metrics import Meter
from gpu_server.output import LogSink
from gpu_server.poller import Progress
from gpu_server.settings import Settings
from gpu_server.states import Phase
from gpu_server.supervisor import Supervisor
from gpu_server.upstream import Upstream
from gpu_server.usage import from_body

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]
HeaderList = list[tuple[bytes, bytes]]

# All that llama-server needs to know of a request; the client's key, cookies and hop-by-hop headers stay here.
_FORWARDED = (b"content-type", b"accept", b"anthropic-version")
# Hop-by-hop (RFC 9110, 7.6.1), those that our own server writes, and llama-server's CORS, which is not its to decide.
_DROPPED = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"upgrade",
    b"transfer-encoding", b"content-length", b"date", b"server", b"process-start-time-unix",
})  # fmt: skip
_EVENT_STREAM = "text/event-stream"
_EVENT_END = b"\n\n"
_DEATH_NOTICED_S = 1.0  # how long a death may take to be noticed after its connections broke
_CLIENT_CLOSED = 499  # nginx's status for a client that hung up; for the log only


class _BrokenError(Exception):
    """The connection to llama-server failed or ended early."""


class Relay:
    """Serves all proxied routes of one llama-server."""

    def __init__(
        self,
        settings: Settings,
        upstream: Upstream,
        supervisor: Supervisor,
        admission: Admission,
        progress: Progress,
        meter: Meter,
        sink: LogSink,
    ) -> None:
        self._settings = settings
        self._upstream = upstream
        self._supervisor = supervisor
        self._admission = admission
        self._progress = progress
        self._meter = meter
        self._sink = sink
        self._name = settings.name.encode("latin-1", "replace")
        self._slots = str(admission.slots).encode()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def serve(self, exchange: Exchange, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens to it."""
        self._in_flight += 1
        self._idle.clear()
        try:
            body = await read_body(headers, receive, self._settings.max_body_bytes)
            self._check(exchange, headers, body)
            await _unless_client_leaves(receive, self._answer(exchange, headers, body, send))
        except ClientGoneError:
            exchange.outcome, exchange.status = "client_gone", _CLIENT_CLOSED
        except ApiError as error:
            await self._send_error(exchange, error, send)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
            ended = time.perf_counter()
            if exchange.streamed:
                exchange.usage = exchange.tail.usage()
            self._meter.finish(exchange, ended)
            self._sink.write("request", model=self._settings.alias, **exchange.log_fields(ended))

    async def idle(self) -> None:
        """Wait until no request is under way; the caller sets the deadline."""
        await self._idle.wait()

    def load_headers(self) -> HeaderList:
        """Return the headers that tell a router how busy this server is."""
        return [
            (b"x-corral-server", self._name),
            (b"x-corral-busy", b"%d" % self._admission.busy),
            (b"x-corral-queued", b"%d" % self._admission.queued),
            (b"x-corral-slots", self._slots),
        ]

    def unavailable(self) -> ApiError:
        """Return the error for a request that llama-server cannot take in its present state."""
        state = self._supervisor.snapshot.state
        wait_s = {"failed": 60, "draining": 30, "stopped": 30}.get(state, 5)
        return ApiError(
            503, f"this server is {state}; try another, or again in {wait_s} s", state, retry_after_s=wait_s
        )

    def _check(self, exchange: Exchange, headers: Mapping[bytes, bytes], body: bytes) -> None:
        if exchange.route.method == "POST" and b"multipart/" not in headers.get(b"content-type", b""):
            check_json(body, allow_remote_media=self._settings.allow_remote_media)

    async def _answer(self, exchange: Exchange, headers: Mapping[bytes, bytes], body: bytes, send: Send) -> None:
        snapshot = self._supervisor.snapshot
        if not (snapshot.can_serve or snapshot.recovering):
            raise self.unavailable()
        if not exchange.route.takes_slot:
            await self._forward(exchange, headers, body, send)
            return
        await self._enter()
        exchange.entered = time.perf_counter()
        took_s = None
        try:
            await self._forward(exchange, headers, body, send)
            took_s = time.perf_counter() - exchange.entered
        finally:
            self._admission.leave(took_s)

    async def _enter(self) -> None:
        waited_s = self._settings.queue_timeout_s
        try:
            await self._admission.enter(waited_s)
        except QueueFullError:
            raise ApiError(
                429, f"all slots are taken and {self._admission.max_queue} requests wait already", "queue_full",
                retry_after_s=self._admission.retry_after_s(),
            ) from None  # fmt: skip
        except TimeoutError:
            if self._supervisor.snapshot.phase is not Phase.READY:
                raise self.unavailable() from None
            raise ApiError(
                429, f"no slot came free within {waited_s:g} s", "queue_timeout",
                retry_after_s=self._admission.retry_after_s(),
            ) from None  # fmt: skip

    async def _forward(self, exchange: Exchange, headers: Mapping[bytes, bytes], body: bytes, send: Send) -> None:
        """Ask llama-server, and once more if it dies before the answer began."""
        forwarded = {name.decode(): headers[name].decode("latin-1") for name in _FORWARDED if name in headers}
        forwarded["x-request-id"] = exchange.request_id.decode()
        await self._ready()
        generation = self._supervisor.snapshot.generation
        try:
            await self._attempt(exchange, forwarded, body, send)
        except _BrokenError:
            if exchange.first_byte is not None:
                raise self._died() from None
            await self._recovered(generation)
            try:
                await self._attempt(exchange, forwarded, body, send)
            except _BrokenError:
                raise self._died() from None

    async def _ready(self) -> None:
        """Wait, bounded, until a llama-server that is being brought back can serve."""
        if self._supervisor.snapshot.phase is Phase.READY:
            return
        try:
            now = await self._supervisor.until(
                lambda seen: seen.phase in (Phase.READY, Phase.FAILED, Phase.STOPPED), self._settings.queue_timeout_s
            )
        except TimeoutError:
            raise self.unavailable() from None
        if now.phase is not Phase.READY:
            raise self.unavailable()

    async def _recovered(self, generation: int) -> None:
        """Wait for the successor of a llama-server that broke a connection; if it lives after all, not at all."""
        try:
            await self._supervisor.until(
                lambda now: now.generation != generation or now.phase is not Phase.READY, _DEATH_NOTICED_S
            )
        except TimeoutError:
            return
        if self._supervisor.snapshot.draining or self._supervisor.snapshot.stopping:
            raise self._died()
        await self._ready()

    def _died(self) -> ApiError:
        return ApiError(502, "llama-server died while it worked on this request; send it again", "upstream_died")

    async def _attempt(self, exchange: Exchange, headers: Mapping[str, str], body: bytes, send: Send) -> None:
        progress = self._progress
        progress.touch()
        progress.waiting += 1
        exchange.streamed = False
        try:
            async with self._upstream.request(exchange.route.method, exchange.path, headers, body) as answer:
                exchange.status = answer.status
                if answer.status == 200 and answer.content_type == _EVENT_STREAM:
                    exchange.streamed = True
                    await self._stream(exchange, answer, send)
                else:
                    await self._whole(exchange, answer, send)
        except TimeoutError:
            raise self._timed_out(exchange) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise _BrokenError from error
        finally:
            progress.waiting -= 1

    def _timed_out(self, exchange: Exchange) -> ApiError:
        wait_s = self._settings.first_byte_timeout_s
        what = "the answer did not begin" if exchange.first_byte is None else "the answer did not go on"
        return ApiError(504, f"{what} within {wait_s:g} s (FIRST_BYTE_TIMEOUT_S)", "upstream_timeout")

    async def _whole(self, exchange: Exchange, answer: aiohttp.ClientResponse, send: Send) -> None:
        body = await answer.read()
        self._progress.touch()
        headers = _kept(answer.raw_headers)
        if answer.status >= 400:
            body = in_openai_shape(body, answer.status)
            headers = [(b"content-type", b"application/json")]
            exchange.outcome = "bad_request" if answer.status < 500 else "upstream_error"
        else:
            exchange.outcome = "ok"
            exchange.usage = from_body(body)
        headers.append((b"content-length", b"%d" % len(body)))
        exchange.first_byte = exchange.last_byte = time.perf_counter()
        await self._start(exchange, headers, send)
        exchange.bytes_out = len(body)
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, exchange: Exchange, answer: aiohttp.ClientResponse, send: Send) -> None:
        """Pass whole events on as they come; the beginning of one waits for its end, so that an error can follow it."""
        content, progress = answer.content, self._progress
        started = False
        held = b""
        while chunk := await content.readany():
            if held or not chunk.endswith(_EVENT_END):
                complete, found, held = (held + chunk).rpartition(_EVENT_END)
                if not found:
                    continue
                chunk = complete + found
            exchange.last_byte = time.perf_counter()
            if not started:
                started = True
                exchange.first_byte = exchange.last_byte
                await self._start(exchange, _kept(answer.raw_headers), send)
            if not chunk.startswith(b":"):  # comments only keep the connection open; they come from a wedged server too
                progress.touch()
                exchange.tail.see(chunk)
            exchange.bytes_out += len(chunk)
            progress.waiting -= 1
            try:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            finally:
                progress.waiting += 1
        if not started:
            await self._start(exchange, _kept(answer.raw_headers), send)
        await send({"type": "http.response.body", "body": held})
        exchange.outcome = "ok"

    async def _start(self, exchange: Exchange, headers: HeaderList, send: Send) -> None:
        headers = [*headers, (b"x-request-id", exchange.request_id), *self.load_headers()]
        await send({"type": "http.response.start", "status": exchange.status, "headers": headers})

    async def _send_error(self, exchange: Exchange, error: ApiError, send: Send) -> None:
        exchange.outcome = error.code
        if exchange.first_byte is not None:  # only streams begin before they are whole
            await send({"type": "http.response.body", "body": error.event()})
            return
        exchange.status = error.status
        await send_error(error, send, [(b"x-request-id", exchange.request_id), *self.load_headers()])


async def send_error(error: ApiError, send: Send, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send `error` as a whole answer."""
    body = error.body()
    fixed = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.retry_after_s is not None:
        fixed.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.status == 401:
        fixed.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> HeaderList:
    return [
        (name, value)
        for name, value in ((name.lower(), value) for name, value in headers)
        if name not in _DROPPED and not name.startswith(b"access-control-")
    ]


async def _unless_client_leaves(receive: Receive, work: Awaitable[None]) -> None:
    """Do `work`, and give it up the moment the client hangs up."""
    serving = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((serving, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            raise ClientGoneError
        await serving
    finally:
        for task in (serving, leaving):
            if not task.done():
                task.cancel()
        await asyncio.gather(serving, leaving, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
