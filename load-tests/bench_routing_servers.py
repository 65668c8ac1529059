"""`make bench-routing`: who answers sooner, and how much is read twice.

LiteLLM with simple-shuffle, LiteLLM with least-busy, the gate as this project ships it, and a cache-aware router
written in Rust (`smg`) stand before two real gpu-servers (SmolLM2 on the CPU), one router after the other, and each
before eight simulated ones of its own, all at the same time. All get the same conversations, in rounds; prompts are new
in each. Prints Markdown, writes `bench-results/routing.json` and, with `--plot FILE`, a plot. Three rounds take some
ten minutes before real servers and six before simulated ones; a machine that does something else spoils both.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles

import aiohttp
from bench_routing_chats import Client, RefusedError, Summary, new_session, run, summary, talks
from bench_routing_farms import BASE, CHECKOUT, RUST, Routed, real_farm, simulated_farm
from bench_routing_workloads import LOST_S, WORKLOADS, Rounds, Workload, sized

SIMULATED = 8
APART_S = 0.7
"""Between the beginnings of two routers' runs at the same time, lest all get a burst at the same moment."""
WARM_UPS = 6
"""Prompts before anything is measured: LiteLLM's first ones pay for what it makes once."""


async def measured(router: Routed, workload: Workload, seed: int, salt: str) -> Summary:
    """Hold a workload's conversations through a router; a failed request ends its own where a server is lost."""
    given = talks(
        seed, workload.chats, workload.turns, salt=salt, each_s=workload.each_s, thinks_s=workload.thinks_s,
        shots=workload.shots, burst=workload.burst, lengths=workload.lengths,
    )  # fmt: skip
    async with new_session() as session:
        client = Client(session, router.key)
        losing = asyncio.create_task(_lose(session, router, workload.lost_at_s))
        failed: list[str] | None = [] if workload.lost_at_s else None
        answers = await run(given, lambda *turn: client.ask(router.url, *turn), client.said.__getitem__, failed)
        await losing
        return summary(answers, failed=len(failed or ()))


async def _together(routers: Mapping[str, Routed], workload: Workload, seed: int, salt: str) -> list[Summary]:
    async with new_session() as session:
        for router in routers.values():
            for number, port in enumerate(router.ports):
                await _simulate(session, port, speed=workload.speeds[number % len(workload.speeds)])

    async def after(number: int, router: Routed) -> Summary:
        await asyncio.sleep(number * APART_S)
        return await measured(router, workload, seed, salt)

    return await asyncio.gather(*(after(number, router) for number, router in enumerate(routers.values())))


async def _warm_up(router: Routed) -> None:
    async with new_session() as session:
        client = Client(session, router.key)
        for number in range(WARM_UPS):
            await client.ask(router.url, f"{number}.0", [{"role": "user", "content": f"{number}: are you there?"}], 2)


async def _lose(session: aiohttp.ClientSession, router: Routed, at_s: float | None) -> None:
    if at_s is not None:
        await asyncio.sleep(at_s)
        await _simulate(session, router.ports[2 % len(router.ports)], lost_s=LOST_S)
        await asyncio.sleep(LOST_S)


async def _simulate(session: aiohttp.ClientSession, port: int, **wanted: float) -> None:
    async with session.post(f"http://127.0.0.1:{port}/simulate", json=wanted) as answer:
        answer.raise_for_status()


def all_measured(routers: Mapping[str, Routed], kind: str, given: argparse.Namespace) -> list[Rounds]:
    """Return what each router came to under each workload of a kind of farm."""
    found = dict[tuple[str, str], list[Summary]]()
    workloads = [sized(one, given.size) for one in WORKLOADS[kind] if not given.workload or one.name in given.workload]
    order = list(routers)
    for router in routers.values():
        asyncio.run(_warm_up(router))
    for turn in range(given.rounds):
        random.Random(given.seed + turn).shuffle(order)
        for workload in workloads:
            salt = f"{time.time():.0f} {turn}"
            if kind == "simulated":
                runs = asyncio.run(_together(routers, workload, given.seed + turn, salt))
                got = dict(zip(routers, runs, strict=True))
            else:
                got = {
                    name: asyncio.run(measured(routers[name], workload, given.seed + turn, f"{salt} {at}"))
                    for at, name in enumerate(order)
                }
            for name, one in got.items():
                found.setdefault((workload.name, name), []).append(one)
                print(
                    f"  {kind}, {workload.name}, {name}: mean TTFT {one.ttft_mean_s:.2f} s", file=sys.stderr, flush=True
                )
    servers = len(next(iter(routers.values())).ports)
    return [Rounds(servers, kind, workload, name, tuple(rounds)) for (workload, name), rounds in found.items()]


def rows(found: Sequence[Rounds]) -> Iterator[str]:
    """Return the table's lines: percentiles of all rounds' answers, the mean's spread, the rest medians of the rounds.

    What is *of least-busy's* is so in the same round.
    """
    yield (
        "| servers | workload | router | TTFT median | p95 | mean, least to most | of least-busy's | cached"
        " | prefill work | moved | failed |"
    )
    yield f"|{'---|' * 11}"
    base = {(one.kind, one.workload): one.rounds for one in found if one.router == BASE}
    for one in found:
        theirs = base[one.kind, one.workload]
        pairs = list(zip(one.rounds, theirs, strict=True))
        means = [its.ttft_mean_s for its in one.rounds]
        times = [its.ttft_mean_s / other.ttft_mean_s for its, other in pairs]
        cuts = quantiles([wait for its in one.rounds for wait in its.ttfts_s], n=20, method="inclusive")
        works = [its.prefilled_tokens / max(1, other.prefilled_tokens) for its, other in pairs]
        yield (
            f"| {one.servers} {one.kind} | {one.workload} | {one.router}"
            f" | {cuts[9]:.2f} s | {cuts[18]:.2f} s | {min(means):.2f} to {max(means):.2f} s"
            f" | {median(times):.2f} | {median(its.cached_share for its in one.rounds):.0%} | {median(works):.2f}"
            f" | {sum(its.moved for its in one.rounds)} | {sum(its.failed for its in one.rounds)} |"
        )


def refusal(error: Exception) -> RefusedError | None:
    """Return what a router refused, if that is all that went wrong."""
    while isinstance(error, ExceptionGroup):
        refused, others = error.split(RefusedError)
        if refused is None or others is not None:
            return None
        error = refused.exceptions[0]
    return error if isinstance(error, RefusedError) else None


def main() -> int:
    """Measure, print and write."""
    names = list(dict.fromkeys(one.name for kind in WORKLOADS.values() for one in kind))
    parser = argparse.ArgumentParser(prog="make bench-routing", description=__doc__)
    parser.add_argument("--farms", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="before which servers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=float, default=1.0, help="of the workloads: 0.5 has half the conversations")
    parser.add_argument("--workload", action="append", choices=names, help="these alone")
    parser.add_argument("--json", type=Path, default=CHECKOUT / "bench-results" / "routing.json")
    parser.add_argument("--plot", type=Path, help="draw there (SVG or PNG); needs the dependency group `bench`")
    given = parser.parse_args()
    if given.rounds < 1 or given.size <= 0:
        parser.error("--rounds is 1 or more, and --size above 0")
    found = list[Rounds]()
    for kind in given.farms:
        if given.workload and not any(one.name in given.workload for one in WORKLOADS[kind]):
            continue
        with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
            farm = real_farm(Path(folder)) if kind == "real" else simulated_farm(Path(folder), SIMULATED)
            routers = running.enter_context(farm)
            if RUST not in routers:
                print("smg is not installed, and left out: scripts/bootstrap.sh test bench", file=sys.stderr)
            try:
                found += all_measured(routers, kind, given)
            except (RefusedError, ExceptionGroup) as error:
                refused = refusal(error)
                if refused is None:
                    raise
                print(f"error: {refused}", file=sys.stderr)
                return 1
    print("\n".join(rows(found)))
    given.json.parent.mkdir(exist_ok=True)
    given.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    if given.plot is not None:
        from bench_routing_plot import draw

        draw(found, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
