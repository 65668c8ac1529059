"""`make bench-gate ARGS=--real`: the same chats through each gate to two real llama-servers.

What a gate costs beside a model: CPU of the gate for each request, time to the first token, tokens a second of all.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from bench_routing_chats import Answered, Client, Message, new_session, run, summary, talks
from rust_router import rust_router

from gate_bench.figures import Measured, settle
from gate_bench.ways import Way, litellm, tuned_and_ours
from support.gpu_servers import KEY, GpuServer
from support.ports import free_port
from support.postgres import running_postgres

CHATS, TURNS, EACH_S, THINKS_S = 8, 4, 1.5, 2.0
FIGURES = {
    "CPU a request (ms)": "request_cpu_ms",
    "first token, median (s)": "first_median_s",
    "first token, p95 (s)": "first_p95_s",
    "tokens a second": "tokens_per_s",
    "prompt from the cache": "cached_share",
}


@dataclass(frozen=True)
class Gate:
    """One gate, or none: where each request goes, the key, and the process whose CPU is counted."""

    ports: Sequence[int]
    way: Way


@contextmanager
def gates(folder: Path) -> Iterator[dict[str, Gate]]:
    """Run two gpu-servers and all gates before them."""
    with ExitStack() as running:
        servers = [
            running.enter_context(GpuServer(folder / f"{n}.log", SERVER_NAME=f"chat-{n}", N_CTX=8192, N_PARALLEL=4))
            for n in (1, 2)
        ]
        ports = [server.ready().port for server in servers]
        found = {"direct, in turns": Gate(ports, Way(ports[0], KEY))}
        database = running.enter_context(running_postgres(folder))
        for title, arguments in tuned_and_ours().items():
            way = running.enter_context(litellm(folder, ports, lambda: database, server_key=KEY, **arguments))
            found[title] = Gate([way.port], way)
        started = running.enter_context(rust_router(ports, free_port, folder / "smg.log", KEY))
        if started is not None:
            found["smg (Rust)"] = Gate([started[1]], Way(started[1], KEY, pid=started[0]))
        yield found


async def answers(gate: Gate, seed: int) -> list[Answered]:
    """Hold the conversations of a round through a gate."""
    given = talks(seed, CHATS, TURNS, salt=f"{time.time():.3f}", each_s=EACH_S, thinks_s=THINKS_S)
    ports = cycle(gate.ports)
    async with new_session() as session:
        client = Client(session, gate.way.key)

        def ask(call: str, messages: Sequence[Message], tokens: int) -> Awaitable[Answered]:
            return client.ask(f"http://127.0.0.1:{next(ports)}", call, messages, tokens)

        return await run(given, ask, client.said.__getitem__)


def measure(gate: Gate, seed: int, into: Measured) -> None:
    """Run one round through a gate."""
    before = gate.way.cpu_s()
    answered = asyncio.run(answers(gate, seed))
    settle(gate.way)
    seen = summary(answered)
    into.add("request_cpu_ms", (gate.way.cpu_s() - before) / len(answered) * 1e3)
    into.add("first_median_s", seen.ttft_median_s)
    into.add("first_p95_s", seen.ttft_p95_s)
    took_s = max(one.ended_s for one in answered) - min(one.sent_s for one in answered)
    into.add("tokens_per_s", sum(one.answer_tokens for one in answered) / took_s)
    into.add("cached_share", seen.cached_share)


def measured(rounds: int, say: Callable[[str], None]) -> dict[str, Measured]:
    """Return the figures of each gate; rounds go to all in turns, with the same chats."""
    with tempfile.TemporaryDirectory(prefix="gate-bench-") as name, gates(Path(name)) as running:
        found = {title: Measured() for title in running}
        for number in range(rounds):
            for title in list(running) if number % 2 == 0 else list(reversed(running)):
                say(f"round {number + 1} of {rounds}: {title}")
                measure(running[title], number, found[title])
    return found


def markdown(found: dict[str, Measured]) -> str:
    """Return one row a gate: the median of the rounds and, in brackets, the least and the most."""
    rows = [["real servers, median (least to most)", *FIGURES], ["---"] * (len(FIGURES) + 1)]
    rows += [[title, *(_cell(one.rounds[name]) for name in FIGURES.values())] for title, one in found.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
