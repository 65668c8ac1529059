"""What the gate costs a request and a streamed token: its fast path beside LiteLLM's own, in one run.

Two gates of one worker each, with keys and a database, stand before one fast fake llama-server; rounds go to them in
turns, with a key that has limits. CPU is the gate's own process, from /proc. Prints Markdown and writes
`bench-results/gate.json`.

    .venv/bin/python load-tests/gate_bench.py    about 3 minutes
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from bench_client import load  # noqa: E402
from bench_gpu_server import FakeLlama  # noqa: E402

from support.gate import CALLBACKS, Gate, deployment, running_gate  # noqa: E402  # it starts gates as the farm does
from support.ports import free_port  # noqa: E402
from support.postgres import running_postgres  # noqa: E402
from support.waiting import wait_until  # noqa: E402

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PACE_S = 0.02
QUESTION = [{"role": "user", "content": "Name a colour."}]
FAKE_FLAG = "--serve-fake"
ANSWER = json.dumps(
    {
        "id": "chatcmpl-GMEfYi8NlH1nhcEmnExlmruPs5tnpV9L", "object": "chat.completion", "created": 1795261400,
        "model": "chat", "usage": {"completion_tokens": 8, "prompt_tokens": 33, "total_tokens": 41},
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello! How are you?"}}
        ],
    }
).encode()  # fmt: skip
SETTLE_S = 1.0
"""After a round, for what LiteLLM does with its rows."""


@dataclass
class Measured:
    """A gate, and what its rounds have shown."""

    name: str
    gate: Gate
    key: str
    pid: int
    request_ms: list[float] = field(default_factory=list)
    chunk_us: list[float] = field(default_factory=list)
    paced_chunk_us: list[float] = field(default_factory=list)
    first_byte_ms: list[float] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.gate.url.rpartition(":")[2])

    def cpu_s(self) -> float:
        """CPU time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def memory_mib(self) -> float:
        """Memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def round_of(self, body: dict[str, Any], connections: int, requests: int) -> tuple[float, list[float]]:
        """Return the CPU time of a round, with its settling, and the time of each request, both in s."""
        before = self.cpu_s()
        asked = {"model": "chat", "messages": QUESTION, **body}
        sending = load(self.port, "/v1/chat/completions", asked, connections, requests, self.key)
        try:
            times = asyncio.run(sending)
        except ExceptionGroup as failed:
            raise SystemExit(f"a round to {self.name} failed, {asked}: {failed.exceptions[0]}") from failed
        time.sleep(SETTLE_S)
        return self.cpu_s() - before, times


class FakeChat(FakeLlama):
    """The gpu-server benchmark's fake llama-server, asked in words that LiteLLM's own path passes on too."""

    def on_message_complete(self) -> None:
        """Answer."""
        request = json.loads(self.body or b"{}")  # LiteLLM looks for /v1/models too
        if request.get("stream"):
            pace_s = PACE_S if self.url.startswith(b"/paced/") else 0.0
            tokens = request.get("max_tokens") or request["max_completion_tokens"]  # LiteLLM's own path renames it
            self.task = asyncio.get_running_loop().create_task(self.stream(tokens, pace_s))
        else:
            self.whole(ANSWER)


async def serve_fake(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(FakeChat, "127.0.0.1", port)
    await server.serve_forever()


@contextmanager
def fake_server() -> Iterator[int]:
    """Run it in a process of its own."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), FAKE_FLAG, str(port)])
    try:
        yield port
    finally:
        process.kill()
        process.wait(10)


def config(port: int) -> dict[str, Any]:
    """Return a gate's configuration, as the renderer writes it."""
    return {
        "model_list": [
            deployment(model, f"{model}-{number}", f"http://127.0.0.1:{port}/{model}/v1")
            for model in ("chat", "paced")
            for number in (1, 2)
        ],
        "router_settings": {"routing_strategy": "least-busy", "num_retries": 2, "allowed_fails": 1},
        "litellm_settings": {"callbacks": [*CALLBACKS, "corral_fast_path.fast_path"], "telemetry": False},
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY", "database_url": "os.environ/DATABASE_URL",
            "database_connection_pool_limit": 10, "proxy_batch_write_at": 5,
        },
    }  # fmt: skip


def measure(one: Measured, scale: float) -> None:
    """One round of each kind."""
    requests = max(10, int(100 * scale))
    cpu, times = one.round_of({}, 4, requests)
    one.request_ms.append(cpu / (4 * requests) * 1e3)
    cpu, times = one.round_of({}, 1, requests)
    one.first_byte_ms.append(statistics.median(times) * 1e3)
    tokens, streams = 1000, max(2, int(10 * scale))
    for model, many, into in (("chat", tokens, one.chunk_us), ("paced", tokens // 4, one.paced_chunk_us)):
        cpu, _ = one.round_of({"model": model, "stream": True, "max_tokens": many}, streams, 1)
        few, _ = one.round_of({"model": model, "stream": True, "max_tokens": 1}, streams, 1)
        into.append(max(0.0, cpu - few) / (streams * (many - 1)) * 1e6)


def table(fast: Measured, stock: Measured) -> tuple[str, dict[str, Any]]:
    """Return the figures as Markdown and as data."""
    rows = {
        "CPU a request, 4 clients (ms)": "request_ms",
        "answer after, 1 client, not streamed (ms)": "first_byte_ms",
        "CPU a streamed token, full speed (us)": "chunk_us",
        "CPU a streamed token, 50 a second (us)": "paced_chunk_us",
    }
    text = "| median (lowest - highest) | fast path | LiteLLM's own | ratio |\n|---|---|---|---|\n"
    data: dict[str, Any] = {}
    for title, name in rows.items():
        ours, theirs = getattr(fast, name), getattr(stock, name)
        ratio = statistics.median(ours) / max(1e-9, statistics.median(theirs))
        text += f"| {title} | {spread(ours)} | {spread(theirs)} | {ratio:.2f} |\n"
        data[name] = {"fast": ours, "stock": theirs, "ratio": ratio}
    ours_mib, theirs_mib = fast.memory_mib(), stock.memory_mib()
    text += f"| memory at the end (MiB) | {ours_mib:.0f} | {theirs_mib:.0f} | {ours_mib / theirs_mib:.2f} |\n"
    data["memory_mib"] = {"fast": ours_mib, "stock": theirs_mib, "ratio": ours_mib / theirs_mib}
    return text, data


def answers(gate: Gate) -> bool:
    """Say whether the way through is open."""
    answer = gate.ask({"model": "chat", "messages": QUESTION})
    if not answer.is_success:
        raise RuntimeError(answer.text)
    return True


def spread(values: list[float]) -> str:
    """Return a median with its bounds."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} - {max(values):.1f})"


def main(
    rounds: Annotated[int, typer.Option(help="rounds to each gate")] = 3,
    scale: Annotated[float, typer.Option(help="of the number of requests")] = 1.0,
    out: Annotated[Path, typer.Option(help="folder for the JSON")] = CHECKOUT / "bench-results",
) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port = stack.enter_context(fake_server())
        database = stack.enter_context(running_postgres(folder))
        gates = []
        for way, switch in (("fast", "on"), ("stock", "off")):
            # The fake says the same word all the time, for which LiteLLM's own path would break off.
            environment = {"CORRAL_FAST_PATH": switch, "REPEATED_STREAMING_CHUNK_LIMIT": "1000000"}
            gate = stack.enter_context(running_gate(folder / way, database, config(port), environment))
            gates.append(Measured(way, gate, gate.new_key(rpm_limit=10**7, tpm_limit=10**9), gate.pid))
        for one in gates:
            wait_until(partial(answers, one.gate), 30, "an answer")
            one.round_of({}, 4, 10)
        for number in range(rounds):
            for one in gates if number % 2 == 0 else reversed(gates):
                measure(one, scale)
        text, data = table(*gates)
    print(text)
    out.mkdir(exist_ok=True)
    (out / "gate.json").write_text(json.dumps(data, indent=1))


if __name__ == "__main__":
    if FAKE_FLAG in sys.argv:
        uvloop.run(serve_fake(int(sys.argv[-1])))
    else:
        typer.run(main)
