"""`make bench-routing`: who answers sooner on two real servers, and how much is read twice.

LiteLLM with simple-shuffle, LiteLLM with least-busy, the gate as this project ships it, and a cache-aware router
written in Rust (`smg`) stand before the same two gpu-servers (SmolLM2 on the CPU). All get the same conversations,
one router after the other, in rounds whose order changes; prompts are new in each. Prints Markdown, writes
`bench-results/routing.json` and, with `--plot FILE`, a plot.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from bench_routing_chats import Answered, Client, RefusedError, Summary, new_session, run, summary, talks
from rust_router import rust_router

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from corral.farm import servers_of  # noqa: E402
from corral.render.litellm import config  # noqa: E402
from support.gate_without_keys import MASTER_KEY, gate_without_keys  # noqa: E402
from support.gpu_servers import KEY, GpuServer  # noqa: E402
from support.ports import free_port  # noqa: E402
from support.random_farms import farm_of  # noqa: E402

FARM = """
hosts: {{box: {{}}}}
models:
  chat: {{source: {{hub: o/r, file: m.gguf}}}}
servers:
  - {{model: chat, host: box, count: 2, ports: [{}, {}]}}
"""
BASE = "LiteLLM least-busy"
RUST = "smg (Rust), cache-aware"
STOCK = {"LiteLLM simple-shuffle": "simple-shuffle", BASE: "least-busy"}
OURS = "this gate"


@dataclass(frozen=True)
class Workload:
    """Conversations and single prompts; seconds between two beginnings, and between an answer and the next turn."""

    name: str
    chats: int
    turns: int
    shots: int
    each_s: float
    thinks_s: float


WORKLOADS = (
    Workload("chats", chats=10, turns=5, shots=0, each_s=3.0, thinks_s=4.0),
    Workload("one-shot prompts", chats=0, turns=1, shots=24, each_s=1.5, thinks_s=1.0),
    Workload("chats and prompts", chats=6, turns=4, shots=12, each_s=2.0, thinks_s=4.0),
)


def sized(workload: Workload, size: float) -> Workload:
    """Return a workload with as many times the conversations and prompts, at least two of each that it has."""
    chats, shots = (count and max(2, round(count * size)) for count in (workload.chats, workload.shots))
    return replace(workload, chats=chats, shots=shots)


@contextmanager
def routers(folder: Path) -> Iterator[dict[str, str]]:
    """Run two gpu-servers and all routers before them; gives each router's address by its name."""
    with ExitStack() as running:
        servers = [
            running.enter_context(GpuServer(folder / f"{n}.log", SERVER_NAME=f"chat-{n}", N_CTX=8192, N_PARALLEL=4))
            for n in (1, 2)
        ]
        for server in servers:
            server.ready()
        ports = [server.port for server in servers]
        farm = farm_of(FARM.format(*ports), folder)
        rendered = config(farm, servers_of(farm))
        found = {}
        for name, strategy in STOCK.items():
            stock = {
                **rendered,
                "router_settings": {**rendered["router_settings"], "routing_strategy": strategy},
                "litellm_settings": {**rendered["litellm_settings"], "callbacks": []},
            }
            found[name] = running.enter_context(gate_without_keys(folder / strategy, stock, workers=1))
        found[OURS] = running.enter_context(gate_without_keys(folder / "ours", rendered, workers=1))
        started = running.enter_context(rust_router(ports, free_port, folder / "smg.log", KEY))
        if started is not None:
            found[RUST] = f"http://127.0.0.1:{started[1]}"
        yield found


async def measured(url: str, key: str, workload: Workload, seed: int, salt: str) -> list[Answered]:
    """Hold a workload's conversations through a router; return the answers."""
    given = talks(
        seed, workload.chats, workload.turns, salt=salt, each_s=workload.each_s, thinks_s=workload.thinks_s,
        shots=workload.shots,
    )  # fmt: skip
    async with new_session() as session:
        client = Client(session, key)
        return await run(given, lambda *turn: client.ask(url, *turn), client.said.__getitem__)


def all_measured(
    addresses: dict[str, str], workloads: Sequence[Workload], rounds: int, seed: int
) -> dict[tuple[str, str], list[Summary]]:
    """Return the summaries of each workload under each router, one a round."""
    found: dict[tuple[str, str], list[Summary]] = {}
    order = list(addresses)
    for turn in range(rounds):
        random.Random(seed + turn).shuffle(order)
        for workload in workloads:
            for name in order:
                key = KEY if name == RUST else MASTER_KEY
                salt = f"{time.time():.0f} {turn}"
                answers = asyncio.run(measured(addresses[name], key, workload, seed + turn, salt))
                one = summary(answers)
                found.setdefault((workload.name, name), []).append(one)
                print(f"  {workload.name}, {name}: mean TTFT {one.ttft_mean_s:.2f} s", file=sys.stderr, flush=True)
    return found


def rows(found: dict[tuple[str, str], list[Summary]]) -> Iterator[str]:
    """Return the table's lines: medians over the rounds, and the mean's range."""
    yield "| workload | router | TTFT median | p95 | mean (each round) | cached | prefill work | moved |"
    yield "|---|---|---|---|---|---|---|---|"
    for (workload, name), rounds in found.items():
        base = found[workload, BASE]
        works = [one.prefilled_tokens / other.prefilled_tokens for one, other in zip(rounds, base, strict=True)]
        means = ", ".join(f"{one.ttft_mean_s:.2f}" for one in rounds)
        yield (
            f"| {workload} | {name} | {median(one.ttft_median_s for one in rounds):.2f} s"
            f" | {median(one.ttft_p95_s for one in rounds):.2f} s | {means} s"
            f" | {median(one.cached_share for one in rounds):.0%} | {median(works):.2f}"
            f" | {sum(one.moved for one in rounds)} |"
        )


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="make bench-routing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=float, default=1.0, help="of the workloads: 0.5 has half the conversations")
    parser.add_argument("--workload", action="append", choices=[one.name for one in WORKLOADS], help="these alone")
    parser.add_argument("--json", type=Path, default=CHECKOUT / "bench-results" / "routing.json")
    parser.add_argument("--plot", type=Path, help="draw there (SVG or PNG); needs the dependency group `bench`")
    given = parser.parse_args()
    if given.rounds < 1 or given.size <= 0:
        parser.error("--rounds is 1 or more, and --size above 0")
    chosen = [sized(one, given.size) for one in WORKLOADS if not given.workload or one.name in given.workload]
    with tempfile.TemporaryDirectory() as folder, routers(Path(folder)) as addresses:
        if RUST not in addresses:
            print("smg is not installed, and left out: scripts/bootstrap.sh test bench", file=sys.stderr)
        try:
            found = all_measured(addresses, chosen, given.rounds, given.seed)
        except ExceptionGroup as failed:
            refused, others = failed.split(RefusedError)
            if refused is None or others is not None:
                raise
            print(f"error: {refused.exceptions[0]}", file=sys.stderr)
            return 1
    print("\n".join(rows(found)))
    document = [
        {"workload": workload, "router": name, "rounds": [asdict(one) for one in rounds]}
        for (workload, name), rounds in found.items()
    ]
    given.json.parent.mkdir(exist_ok=True)
    given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.plot is not None:
        from bench_routing_plot import draw

        draw(document, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
