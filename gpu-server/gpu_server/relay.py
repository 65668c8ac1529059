"""The data path: a plain ASGI endpoint that passes raw bytes between a client and llama-server.

A request waits for its slot, goes to llama-server with a clean set of headers, and its answer comes back byte for byte
(see `delivery`). The request is retried once if llama-server dies before a byte of the answer went to the client.

A client that leaves frees its slot at once: the connection to llama-server is closed, and chats and completions are
always streams on that side (see `assembly`). Responses and messages that are not streamed, embeddings, reranking and
transcription go through as they are; the slot here is free at once, while llama-server may work on for seconds.
"""

import asyncio
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from gpu_server.admission import Admission, QueueFullError
from gpu_server.assembly import Form, IncompleteError, form
from gpu_server.body import CHUNK_TIMEOUT_S, Receive, body_timeout, check_json, read_body
from gpu_server.client import Client
from gpu_server.delivery import Delivery, HeaderList, Send, passed_on, send_error
from gpu_server.errors import ApiError, blames_request
from gpu_server.exchange import Exchange
from gpu_server.guard import ClientGoneError, ClientStalledError, Guard, Watch
from gpu_server.http1 import BrokenError
from gpu_server.metrics import Meter
from gpu_server.output import LogSink
from gpu_server.poller import Progress
from gpu_server.settings import Settings
from gpu_server.states import Phase
from gpu_server.supervisor import Supervisor
from gpu_server.upstream import Upstream
from gpu_server.usage import from_body

Scope = MutableMapping[str, Any]

# All that llama-server needs to know of a request; the client's key, cookies and hop-by-hop headers stay here.
_FORWARDED = (b"content-type", b"accept", b"anthropic-version")
_EVENT_STREAM = b"text/event-stream"
_DEATH_NOTICED_S = 1.0  # how long a death may take to be noticed after its connections broke
_CLIENT_CLOSED = 499  # nginx's status for a client that hung up; for the log only


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
        self._delivery = Delivery(settings, progress, self.load_headers)
        self._name = settings.name.encode("latin-1", "replace")
        self._slots = str(admission.slots).encode()
        self._watch = Watch()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def serve(
        self, exchange: Exchange, headers: Mapping[bytes, bytes], receive: Receive, send: Send, client: Client
    ) -> None:
        """Answer one request, whatever happens to it."""
        self._in_flight += 1
        self._idle.clear()
        try:
            with self._guard(client) as guard:
                guard.allow(CHUNK_TIMEOUT_S, body_timeout)
                body = await read_body(headers, receive, self._settings.max_body_bytes, guard)
                guard.allow(None)
                self._check(exchange, headers, body)
                await self._answer(exchange, headers, body, send, guard)
        except ClientGoneError:
            exchange.outcome, exchange.status = "client_gone", _CLIENT_CLOSED
        except ClientStalledError:
            exchange.outcome = "client_stalled"
            await _cut_off(client, receive)
        except ApiError as error:
            await self._refuse(exchange, error, receive, send, client)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
            ended = time.perf_counter()
            if exchange.streamed:
                exchange.usage = exchange.tail.usage()
            self._meter.finish(exchange, ended)
            self._sink.write_soon("request", model=self._settings.alias, **exchange.log_fields(ended))

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

    def _guard(self, client: Client) -> Guard:
        return Guard(self._watch, client, self._settings.stall_timeout_s)

    def _check(self, exchange: Exchange, headers: Mapping[bytes, bytes], body: bytes) -> None:
        if exchange.route.method == "POST" and b"multipart/" not in headers.get(b"content-type", b""):
            check_json(body, allow_remote_media=self._settings.allow_remote_media)

    async def _answer(
        self, exchange: Exchange, headers: Mapping[bytes, bytes], body: bytes, send: Send, guard: Guard
    ) -> None:
        snapshot = self._supervisor.snapshot
        if not (snapshot.can_serve or snapshot.recovering):
            raise self.unavailable()
        if not exchange.route.takes_slot:
            await self._forward(exchange, headers, body, send, guard)
            return
        await self._enter()
        exchange.entered = time.perf_counter()
        took_s = None
        try:
            await self._forward(exchange, headers, body, send, guard)
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

    async def _forward(
        self, exchange: Exchange, headers: Mapping[bytes, bytes], body: bytes, send: Send, guard: Guard
    ) -> None:
        """Ask llama-server, and once more if it dies before the answer began."""
        forwarded = [(name, headers[name]) for name in _FORWARDED if name in headers]
        forwarded.append((b"x-request-id", exchange.request_id))
        await self._ready()
        generation = self._supervisor.snapshot.generation
        try:
            await self._attempt(exchange, forwarded, body, send, guard)
        except BrokenError:
            if exchange.first_byte is not None:
                raise self._died() from None
            await self._recovered(generation)
            try:
                await self._attempt(exchange, forwarded, body, send, guard)
            except BrokenError:
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

    async def _attempt(self, exchange: Exchange, headers: HeaderList, body: bytes, send: Send, guard: Guard) -> None:
        self._progress.touch()
        self._progress.waiting += 1
        exchange.streamed = False
        guard.allow(self._settings.first_byte_timeout_s, lambda: self._delivery.timed_out(exchange))
        try:
            asked = form(exchange.path, body)
            if asked is None or not await self._ask(exchange, headers, asked, send, guard):
                await self._ask(exchange, headers, Form(body, assemble=False, changed=False), send, guard)
        except IncompleteError as error:
            raise BrokenError(str(error)) from error
        finally:
            self._progress.waiting -= 1

    async def _ask(self, exchange: Exchange, headers: HeaderList, asked: Form, send: Send, guard: Guard) -> bool:
        """Ask and answer; False if llama-server refused a request that was changed, and it must be asked as it came.

        A refusal (400) has done no work, and so the client gets the very words that it would have got.
        """
        async with self._upstream.request(exchange.route.method, exchange.path, headers, asked.body) as answer:
            exchange.status = answer.status
            kept = passed_on(answer.headers)
            if answer.status == 200 and dict(kept).get(b"content-type") == _EVENT_STREAM:
                if asked.assemble:
                    await self._delivery.assembled(exchange, answer, send, guard)
                else:
                    exchange.streamed = True
                    await self._delivery.stream(exchange, answer, kept, asked, send, guard)
                return True
            whole = await answer.read_all()
        if blames_request(exchange.status, whole, works=exchange.route.takes_slot):
            exchange.status = 400
        if exchange.status == 400 and asked.changed:
            return False
        exchange.usage = from_body(whole) if exchange.status == 200 else None
        await self._delivery.whole(exchange, whole, kept, send, guard)
        return True

    async def _refuse(self, exchange: Exchange, error: ApiError, receive: Receive, send: Send, client: Client) -> None:
        """Answer with `error`, or end the stream that has begun with it."""
        exchange.outcome = error.code
        try:
            with self._guard(client) as guard:
                guard.sending = time.perf_counter()
                if exchange.first_byte is not None:  # only streams begin before they are whole
                    await send({"type": "http.response.body", "body": error.event()})
                    return
                exchange.status = error.status
                await send_error(error, send, [(b"x-request-id", exchange.request_id), *self.load_headers()])
        except ClientGoneError:
            return
        except ClientStalledError:
            await _cut_off(client, receive)


async def _cut_off(client: Client, receive: Receive) -> None:
    client.cut_off()
    while (await receive())["type"] != "http.disconnect":
        continue
