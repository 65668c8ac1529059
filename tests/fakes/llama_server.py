"""A llama-server that can be asked to break: `python llama_server.py --control PORT [llama-server's flags]`.

It speaks the routes and chunks that gpu-server uses, answers made-up words, and obeys a second port:

    POST /set   {"stall": "decode"}     change `Faults`, field by field
    POST /say   {"line": "CUDA error"}  print a line on stderr
    POST /end   {"signal": 11}          die by a signal, or {"code": 1} with an exit code
    GET  /seen                          requests taken, slots at work

`support.fake_llama.launcher` makes the executable that a gpu-server gets as LLAMA_SERVER.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import llama_answers as answers
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_PING_S = 0.2


@dataclass
class Faults:
    """What is wrong now; `hang` names routes that take a request and never answer, `*` all of them."""

    hang: list[str] = field(default_factory=list)
    stall: Literal["prefill", "decode"] | None = None
    slots_delay_s: float = 0.0
    leak_slots: bool = False
    prefill_s: float = 0.0
    token_s: float = 0.0
    big_words: int = 0  # bytes a word, to fill a slow reader's buffers


@dataclass
class Slot:
    """As much of a slot as /slots tells."""

    id: int
    task: int | None = None
    processing: bool = False
    prompt_tokens: int = 0
    processed: int = 0
    decoded: int = 0

    def document(self, context: int) -> answers.Json:
        told: answers.Json = {
            "id": self.id, "n_ctx": context, "speculative": False, "is_processing": self.processing,
        }  # fmt: skip
        if self.task is None:
            return told
        next_token = {
            "has_next_token": self.processing, "has_new_line": False, "n_remain": -1, "n_decoded": self.decoded,
        }  # fmt: skip
        return told | {
            "id_task": self.task, "n_prompt_tokens": self.prompt_tokens, "n_prompt_tokens_processed": self.processed,
            "n_prompt_tokens_cache": 0, "next_token": [next_token],
        }  # fmt: skip


class Fake:
    """The server's state and its routes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.faults = Faults(**{name: getattr(options, name) for name in ("prefill_s", "token_s")})
        self.alias: str = options.alias
        self.context = options.ctx_size // options.parallel
        self.slots = [Slot(number) for number in range(options.parallel)]
        self.loaded_at = time.monotonic() + options.start_s
        self.mode = "embedding" if options.embedding else "chat"
        self._tasks = itertools.count()
        self._freed = asyncio.Condition()
        self._taken = 0
        self._decoded = 0

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._gate], client_max_size=64 * 2**20)
        app.router.add_get("/health", self._health)
        app.router.add_get("/props", self._props)
        app.router.add_get("/slots", self._slots)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/detokenize", self._detokenize)
        app.router.add_post("/apply-template", self._apply_template)
        app.router.add_post("/v1/embeddings", self._embeddings)
        for path in answers.DIALECTS:
            app.router.add_post(path, self._generate)
        return app

    def control(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/set", self._set)
        app.router.add_post("/say", self._say)
        app.router.add_post("/end", self._end)
        app.router.add_get("/seen", self._seen)
        return app

    # ---- the control port ------------------------------------------------------------------------------------

    async def _set(self, request: web.Request) -> web.Response:
        self.faults = dataclasses.replace(self.faults, **await request.json())
        return web.json_response(dataclasses.asdict(self.faults))

    async def _say(self, request: web.Request) -> web.Response:
        print((await request.json())["line"], file=sys.stderr, flush=True)
        return web.json_response({})

    async def _end(self, request: web.Request) -> web.Response:
        how = await request.json()
        if "code" in how:
            os._exit(how["code"])
        signal.signal(how["signal"], signal.SIG_DFL) if how["signal"] != signal.SIGKILL else None
        os.kill(os.getpid(), how["signal"])
        return web.json_response({})

    async def _seen(self, _request: web.Request) -> web.Response:
        busy = sum(slot.processing for slot in self.slots)
        return web.json_response({"taken": self._taken, "busy": busy, "pid": os.getpid()})

    # ---- llama-server's small answers --------------------------------------------------------------------------

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in self.faults.hang or "*" in self.faults.hang:
            await _for_ever()
        if time.monotonic() < self.loaded_at:
            return _failed(503, "Loading model")
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return _failed(404, "File Not Found")

    async def _health(self, _request: web.Request) -> web.Response:
        return _told({"status": "ok"})

    async def _props(self, _request: web.Request) -> web.Response:
        return _told({"build_info": answers.BUILD, "total_slots": len(self.slots), "model_alias": self.alias})

    async def _slots(self, _request: web.Request) -> web.Response:
        await asyncio.sleep(self.faults.slots_delay_s)
        return _told([slot.document(self.context) for slot in self.slots])

    async def _metrics(self, _request: web.Request) -> web.Response:
        busy = float(sum(slot.processing for slot in self.slots))
        lines = answers.metrics({"tokens_predicted_total": self._decoded, "requests_processing": busy})
        kind = "text/plain; version=0.0.4"
        return web.Response(body="\n".join([*lines, ""]).encode(), headers={"content-type": kind})

    async def _models(self, _request: web.Request) -> web.Response:
        return _told(answers.models(self.alias, self.context))

    async def _tokenize(self, request: web.Request) -> web.Response:
        content = (await request.json()).get("content", "")
        return _told({"tokens": list(range(len(content.split())))})

    async def _detokenize(self, request: web.Request) -> web.Response:
        return _told({"content": " ".join(map(str, (await request.json()).get("tokens", [])))})

    async def _apply_template(self, request: web.Request) -> web.Response:
        return _told({"prompt": str((await request.json())["messages"])})

    async def _embeddings(self, request: web.Request) -> web.Response:
        if self.mode != "embedding":
            return _failed(501, "This server does not support embeddings. Start it with `--embeddings`")
        given = (await request.json())["input"]
        async with self._slot(1):
            return _told(answers.embeddings(self.alias, len(given) if isinstance(given, list) else 1))

    # ---- generations -----------------------------------------------------------------------------------------

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = await request.json()
            needed = answers.NEEDED[request.path]
            if needed not in asked:
                return _failed(400, f"'{needed}' is required")
            count = int(asked.get("max_tokens") or asked.get("max_output_tokens") or 16)
        except (ValueError, TypeError) as error:
            return _failed(400, str(error))
        dialect = answers.DIALECTS[request.path]
        filler = "x" * self.faults.big_words
        words = tuple(f" w{number}{filler}" for number in range(count))
        include_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        async with contextlib.AsyncExitStack() as held:
            slot = await held.enter_async_context(self._slot(8))
            answer = answers.Answer(self.alias, slot.task or 0, words, slot.prompt_tokens, include_usage)
            if asked.get("stream"):
                return await self._streamed(request, dialect, answer, slot, held)
            await self._prefill(slot)
            async for _word in self._words(answer, slot, pings=None):
                continue
            return _told(dialect.whole(answer))

    async def _streamed(
        self,
        request: web.Request,
        dialect: answers.Dialect,
        answer: answers.Answer,
        slot: Slot,
        held: contextlib.AsyncExitStack,
    ) -> web.StreamResponse:
        await self._prefill(slot)
        stream = web.StreamResponse(headers={"content-type": "text/event-stream", "x-accel-buffering": "no"})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        for piece in dialect.opening(answer):
            await stream.write(piece)
        async with asyncio.TaskGroup() as decode_loop:  # it never waits for a client that reads slowly
            decoded: asyncio.Queue[str | None] = asyncio.Queue()
            decode_loop.create_task(self._decode(answer, slot, stream, decoded, held))
            while (word := await decoded.get()) is not None:
                await stream.write(dialect.word(answer, word))
        for piece in dialect.closing(answer):
            await stream.write(piece)
        await stream.write_eof()
        return stream

    async def _decode(
        self,
        answer: answers.Answer,
        slot: Slot,
        stream: web.StreamResponse,
        into: "asyncio.Queue[str | None]",
        held: contextlib.AsyncExitStack,
    ) -> None:
        async for word in self._words(answer, slot, pings=stream):
            into.put_nowait(word)
        into.put_nowait(None)
        await held.aclose()  # the slot is free before the client has read it all

    async def _prefill(self, slot: Slot) -> None:
        """Read the prompt: the count of read tokens grows all along, unless it is stalled."""
        until = time.monotonic() + self.faults.prefill_s
        while self.faults.stall == "prefill" or time.monotonic() < until:
            slot.processed += self.faults.stall != "prefill"
            await asyncio.sleep(0.05)
        slot.processed = slot.prompt_tokens

    async def _words(self, answer: answers.Answer, slot: Slot, pings: web.StreamResponse | None) -> AsyncIterator[str]:
        for word in answer.words:
            while self.faults.stall == "decode" and slot.decoded:
                await asyncio.sleep(_PING_S)
                if pings is not None:  # the real one's HTTP thread does so, too, while its decode loop is stuck
                    await pings.write(b":\n\n")
            if self.faults.token_s:
                await asyncio.sleep(self.faults.token_s)
            slot.decoded += 1
            self._decoded += 1
            yield word

    @contextlib.asynccontextmanager
    async def _slot(self, prompt_tokens: int) -> AsyncIterator[Slot]:
        async with self._freed:
            await self._freed.wait_for(lambda: not all(slot.processing for slot in self.slots))
            slot = next(slot for slot in self.slots if not slot.processing)
            slot.processing, slot.task = True, next(self._tasks)
            slot.prompt_tokens, slot.processed, slot.decoded = prompt_tokens, 0, 0
            self._taken += 1
        try:
            yield slot
        finally:
            if not self.faults.leak_slots:
                slot.processing = False
                async with self._freed:
                    self._freed.notify()


def _told(document: Any) -> web.Response:
    return web.json_response(document, content_type="application/json")


def _failed(status: int, message: str) -> web.Response:
    answer = web.json_response(answers.error(status, message), status=status)
    answer.force_close()
    return answer


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _serve(options: argparse.Namespace) -> None:
    fake = Fake(options)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, os._exit, 0)  # as the embedded one: open streams are cut
    for app, port in ((fake.app(), options.port), (fake.control(), options.control)):
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
    print("fake llama-server ready", file=sys.stderr, flush=True)
    await ended.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--start-s", type=float, default=0.0, help="says `Loading model` for so long")
    parser.add_argument("--exit-code", type=int, help="end with it at once")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--prefill-s", type=float, default=0.0)
    parser.add_argument("--token-s", type=float, default=0.0)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", default="fake")
    parser.add_argument("--ctx-size", type=int, default=4096)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--embedding", action="store_true")
    return parser.parse_known_args()[0]


if __name__ == "__main__":
    chosen = _options()
    if chosen.exit_code is not None:
        sys.exit(chosen.exit_code)
    asyncio.run(_serve(chosen))
