"""Hold the simulator against two real llama-servers: `make routing-sim ARGS=--validate`.

Two gpu-servers with SmolLM2 on the CPU are measured; then conversations are held on them by turns and where the router
says, and the same conversations, with the same tokens and pauses, on simulated servers of the measured speeds. The mean
time to the first token and the cached share of prompt tokens must agree within the tolerance.

Speeds are measured before and after each run, for those of a machine drift. A small difference of speed changes which
requests meet, and so the waits of a run by much more: each run is simulated with several speeds around those measured.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean

import httpx
from bench_routing_chats import Answered, Message, Summary, Talk, summary, talks

from routing_sim import real
from routing_sim.engine import Card
from routing_sim.replay import POLICIES, replayed

CHECKOUT = Path(__file__).resolve().parents[2]
TOLERANCE = 0.15
SLOTS, CONTEXT = 2, 2048
ROUNDS = 3
REPLAYS = 15
SPEED_VARIES = 0.03
DRIFT = 0.1
"""A machine whose speed changes by more during a run is not quiet enough."""
TEMPLATE_TOKENS = 6
"""What a chat template puts around a system prompt."""


@dataclass(frozen=True)
class Measured:
    """The servers' figures, and how much one that computes slows the other."""

    cards: Mapping[str, Card]
    contention: float

    def between(self, other: "Measured") -> "Measured":
        """Return the means of two measurements."""
        cards = {name: _mean_card(card, other.cards[name]) for name, card in self.cards.items()}
        return Measured(cards, (self.contention + other.contention) / 2)

    def drift(self, other: "Measured") -> float:
        """Return by which share the prefill rate of a server differs from another measurement, at most."""
        return max(abs(other.cards[name].prefill_rate / card.prefill_rate - 1) for name, card in self.cards.items())

    def varied(self, random: Random) -> dict[str, Card]:
        """Return the servers with speeds that differ a little from those measured."""
        return {
            name: replace(
                card,
                prefill_rate=card.prefill_rate * random.uniform(1 - SPEED_VARIES, 1 + SPEED_VARIES),
                decode_rate=card.decode_rate * random.uniform(1 - SPEED_VARIES, 1 + SPEED_VARIES),
            )
            for name, card in self.cards.items()
        }


def _mean_card(one: Card, other: Card) -> Card:
    figures = ("prefill_rate", "decode_rate", "sharing", "overhead_s", "reach")
    return replace(one, **{name: (getattr(one, name) + getattr(other, name)) / 2 for name in figures})


@dataclass(frozen=True)
class Compared:
    """A policy's runs on real servers, the mean of each one's simulations, and by how much the servers drifted."""

    policy: str
    runs: Sequence[Summary]
    replays: Sequence[Summary]
    drift: float

    @property
    def real(self) -> Summary:
        """The mean of the real runs."""
        return averaged(self.runs)

    @property
    def simulated(self) -> Summary:
        """The mean of the simulations."""
        return averaged(self.replays)

    @property
    def ttft_error(self) -> float:
        """How far the simulated mean time to the first token is from the real one, of the latter."""
        return self.simulated.ttft_mean_s / self.real.ttft_mean_s - 1

    @property
    def cached_error(self) -> float:
        """The same for the cached share of prompt tokens."""
        return self.simulated.cached_share / max(self.real.cached_share, 1e-9) - 1


def averaged(found: Sequence[Summary]) -> Summary:
    """Return the mean of each figure of several runs; counts are rounded."""
    return Summary(
        answers=round(fmean(one.answers for one in found)),
        ttft_median_s=fmean(one.ttft_median_s for one in found),
        ttft_p95_s=fmean(one.ttft_p95_s for one in found),
        ttft_mean_s=fmean(one.ttft_mean_s for one in found),
        cached_share=fmean(one.cached_share for one in found),
        prefilled_tokens=round(fmean(one.prefilled_tokens for one in found)),
        moved=round(fmean(one.moved for one in found)),
    )


def compare(
    count: int, turns: int, *, seed: int, each_s: float, runs: int = 1, rounds: int = ROUNDS, drifts: bool = True
) -> tuple[Measured, list[Compared]]:
    """Start two servers, measure them, and hold the same conversations under each policy, really and simulated.

    Returns the servers' figures at the end, and what was found.

    Args:
        count: conversations.
        turns: of each.
        seed: of what is said and when, in the first run.
        each_s: seconds between two that begin; pauses between turns are twice as long.
        runs: of each policy.
        rounds: of each measurement.
        drifts: measure anew after each run; where only the cached shares count, once is enough.
    """
    sys.path.insert(0, str(CHECKOUT / "tests"))
    from support.gpu_servers import KEY, GpuServer  # it starts servers as a user does, and leaves nothing behind

    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        started = [
            running.enter_context(
                GpuServer(Path(folder) / f"{n}.log", SERVER_NAME=f"chat-{n}", N_PARALLEL=SLOTS, N_CTX=SLOTS * CONTEXT)
            )
            for n in (1, 2)
        ]
        servers = [real.Server(f"chat-{n}", f"http://127.0.0.1:{one.port}", KEY) for n, one in enumerate(started, 1)]
        for one in started:
            one.ready()
        return asyncio.run(_compare(servers, count, turns, seed, each_s, runs, rounds, drifts))


async def _compare(
    servers: Sequence[real.Server],
    count: int,
    turns: int,
    seed: int,
    each_s: float,
    runs: int,
    rounds: int,
    drifts: bool,
) -> tuple[Measured, list[Compared]]:
    salt = f"{time.time():.0f}"
    holds: Mapping[str, Callable[[Sequence[Talk]], Awaitable[tuple[list[Answered], dict[str, list[Message]]]]]] = {
        "round-robin": lambda given: real.by_turns(given, servers),
        "corral": lambda given: real.routed(given, servers, Random(seed)),
    }
    before = await _measured(servers, f"{salt} first", rounds)
    found = {policy: (list[Summary](), list[Summary](), list[float]()) for policy in POLICIES}
    for run in range(runs):
        for policy in POLICIES:
            name = f"{policy} {run} {salt}"
            given = talks(seed + run, count, turns, salt=name, each_s=each_s, thinks_s=2 * each_s)
            answers, asked = await holds[policy](given)
            after = await _measured(servers, f"after {name}", rounds) if drifts else before
            tokens = {one.system: _counted(servers[0], one.system) for one in given}
            speeds, random = before.between(after), Random(seed)
            again = [
                replayed(
                    policy, given, answers, asked, speeds.varied(random), speeds.contention, system_tokens=tokens,
                    seed=seed + number,
                )
                for number in range(REPLAYS)
            ]  # fmt: skip
            really, simulated, by = found[policy]
            really.append(summary(answers))
            simulated.append(averaged([summary(one) for one in again]))
            by.append(before.drift(after))
            before = after
    return before, [Compared(policy, really, simulated, max(by)) for policy, (really, simulated, by) in found.items()]


async def _measured(servers: Sequence[real.Server], salt: str, rounds: int) -> Measured:
    cards = await real.measured(servers, slots=SLOTS, context=CONTEXT, salt=f"m{salt}", rounds=rounds)
    return Measured(cards, await real.contention(servers, salt=f"c{salt}", rounds=rounds))


def _counted(server: real.Server, text: str) -> int:
    answer = httpx.post(
        f"{server.url}/tokenize", json={"content": text}, headers={"authorization": f"Bearer {server.key}"}, timeout=30
    )
    answer.raise_for_status()
    return len(answer.json()["tokens"]) + TEMPLATE_TOKENS


def main(*, conversations: int, turns: int, seed: int, each_s: float, runs: int, json_to: Path | None) -> int:
    """Print both, side by side; return 1 where they differ by more than the tolerance."""
    measured, found = compare(conversations, turns, seed=seed, each_s=each_s, runs=runs)
    columns = ("server", "prefill", "after 1,000 tokens", "decode", "a further stream", "before each answer")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, card in measured.cards.items():
        further = card.prefill_rate / (1 + 1000 * card.reach)
        speeds = f"{card.prefill_rate:.0f} tokens/s | {further:.0f} tokens/s | {card.decode_rate:.0f} tokens/s"
        print(f"| {name} | {speeds} | +{card.sharing:.0%} | {card.overhead_s * 1000:.0f} ms |")
    print(f"\nWhile both compute each takes {measured.contention:.0%} longer.")
    print("\n| policy | servers | TTFT mean | of each run | median | p95 | cached share | moved |\n|" + "---|" * 8)
    for one in found:
        for kind, got, each in (("real", one.real, one.runs), ("simulated", one.simulated, one.replays)):
            means = ", ".join(f"{run.ttft_mean_s:.2f}" for run in each)
            times = f"{got.ttft_mean_s:.2f} s | {means} | {got.ttft_median_s:.2f} s | {got.ttft_p95_s:.2f} s"
            print(f"| {one.policy} | {kind} | {times} | {got.cached_share:.0%} | {got.moved} |")
        print(f"| {one.policy} | difference | {one.ttft_error:+.0%} | | | | {one.cached_error:+.0%} | |")
    if json_to is not None:
        document = {
            "measured": asdict(measured),
            "compared": [{**asdict(one), "ttft": one.ttft_error, "cached": one.cached_error} for one in found],
        }
        json_to.write_text(json.dumps(document, indent=1) + "\n")
    if (drift := max(one.drift for one in found)) > DRIFT:
        print(f"\nA server's prefill rate changed by {drift:.0%} during a run: try again on a quieter machine.")
    far = [one.policy for one in found if max(abs(one.ttft_error), abs(one.cached_error)) > TOLERANCE]
    if far:
        print(f"\nfurther apart than {TOLERANCE:.0%}: {', '.join(far)}", file=sys.stderr)
    return 1 if far else 0
