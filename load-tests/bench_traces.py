"""What traces cost a request: a gate without them beside one whose Langfuse takes them, refuses them and hangs.

Both gates have one worker, the same fast fake llama-server behind and a key; rounds go to them in turns. The receiver
that stands where Langfuse would be decodes what it gets. Prints Markdown and writes `bench-results/traces.json`.

    PYTHONPATH=load-tests:tests .venv/bin/python load-tests/bench_traces.py    about 5 minutes
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from gate_bench.__main__ import fake_server
from gate_bench.client import ask
from gate_bench.ways import Way, litellm

from support.gate import CALLBACKS  # as the farm's gate has them
from support.otlp_receiver import OtlpReceiver, otlp_receiver
from support.postgres import running_postgres

CHECKOUT = Path(__file__).resolve().parents[1]
PUBLIC_KEY, SECRET_KEY = "pk-lf-of-the-bench", "sk-lf-of-the-bench"
EXPORT_EVERY_MS = 500
"""Ten times as often as shipped: each round then sees batches go."""
CLIENTS = 4
SETTLE_S = 1.0
"""After a round, for rows and spans."""


def measure(way: Way, requests: int) -> tuple[list[float], float]:
    """Return the time of each request, and the gate's CPU a request, both in ms."""
    before = way.cpu_s()
    seen = asyncio.run(ask(way.port, way.key, {}, CLIENTS, requests))
    time.sleep(SETTLE_S)
    return [time_s * 1e3 for time_s in seen.answers], (way.cpu_s() - before) / (CLIENTS * requests) * 1e3


def spread(values: list[float]) -> str:
    """Return a median with its bounds."""
    return f"{statistics.median(values):.0f} ({min(values):.0f} - {max(values):.0f})"


def percentile(times: list[float], share: int) -> float:
    """Return the time within which this share (percent) was answered."""
    return statistics.quantiles(times, n=100)[share - 1]


@dataclass
class Phase:
    """Rounds to both gates, in turns, while Langfuse does one thing; each as `measure` returns it."""

    without: list[tuple[list[float], float]] = field(default_factory=list)
    traced: list[tuple[list[float], float]] = field(default_factory=list)
    memory_mib: float = 0.0

    def row(self, title: str) -> tuple[str, dict[str, Any]]:
        """Return a line of the table, and its data. Ratios are of rounds side by side: the machine may be busy."""
        ours, theirs = ([statistics.median(times) for times, _ in one] for one in (self.traced, self.without))
        late, late_without = (
            statistics.median(percentile(times, 99) for times, _ in one) for one in (self.traced, self.without)
        )
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        cpu, cpu_without = (statistics.median(each for _, each in one) for one in (self.traced, self.without))
        text = (
            f"| {title} | {spread(theirs)} | {spread(ours)} | {ratio:.2f} | {late_without:.0f}, {late:.0f} "
            f"| {cpu_without:.1f}, {cpu:.1f} | {self.memory_mib:.0f} |"
        )
        data = {"without_ms": theirs, "traced_ms": ours, "ratio": ratio, "cpu_ms": [cpu_without, cpu]}
        return text, {**data, "p99_ms": [late_without, late], "memory_mib": self.memory_mib}


def phases(receiver: OtlpReceiver, stack: ExitStack) -> list[tuple[str, Callable[[], object]]]:
    """Return what Langfuse does, one after the other."""
    return [
        ("takes them", lambda: None),
        ("refuses the keys (401)", lambda: stack.enter_context(receiver.other_keys())),
        ("hangs", receiver.go_on.clear),
    ]


def main(
    rounds: Annotated[int, typer.Option(help="of each phase")] = 4,
    requests: Annotated[int, typer.Option(help="of each client and round")] = 100,
    out: Annotated[Path, typer.Option(help="folder for the JSON")] = CHECKOUT / "bench-results",
) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port = stack.enter_context(fake_server())
        database = cache(lambda: stack.enter_context(running_postgres(folder)))
        receiver = stack.enter_context(otlp_receiver(PUBLIC_KEY, SECRET_KEY))
        os.environ |= {  # gates inherit it; the one without traces loads nothing that reads it
            "LANGFUSE_OTEL_HOST": receiver.url, "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY, "LANGFUSE_SECRET_KEY": SECRET_KEY,
            "OTEL_BSP_SCHEDULE_DELAY": str(EXPORT_EVERY_MS),
        }  # fmt: skip
        plain = [*CALLBACKS, "corral_fast_path.fast_path"]
        traced = [*plain, "corral_traces.traces"]
        without, with_traces = (
            stack.enter_context(litellm(folder, port, database, kind, "hosted_vllm", callbacks))
            for kind, callbacks in (("without", plain), ("with", traced))
        )
        for one in (without, with_traces):
            measure(one, 20)
        found: dict[str, Phase] = {}
        for title, begin in phases(receiver, stack):
            begin()
            phase = found[title] = Phase()
            for number in range(rounds):
                pair = [(without, phase.without), (with_traces, phase.traced)]
                for one, into in pair if number % 2 == 0 else reversed(pair):
                    into.append(measure(one, requests))
            phase.memory_mib = with_traces.memory_mib()
        received = len(receiver.spans)
        stopping = time.monotonic()
    lines = {title: phase.row(title) for title, phase in found.items()}
    print("| Langfuse | without, ms | with traces, ms | ratio | 99 of 100 within, ms | CPU a request, ms | MiB |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(text for text, _ in lines.values()))
    print(f"\n{received} spans received; all was stopped in {time.monotonic() - stopping:.1f} s")
    out.mkdir(exist_ok=True)
    data = {"phases": {title: data for title, (_, data) in lines.items()}, "spans": received}
    (out / "traces.json").write_text(json.dumps(data, indent=1))


if __name__ == "__main__":
    typer.run(main)
