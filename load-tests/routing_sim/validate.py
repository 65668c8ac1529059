"""Hold the simulator against two real llama-servers: `make routing-sim ARGS=--validate`.

Two gpu-servers with SmolLM2 on the CPU are measured; then conversations are held on them by turns and where the router
says, and the same conversations, with the same tokens and pauses, on simulated servers of the measured speeds. The mean
time to the first token and the cached share of prompt tokens must agree within the tolerance.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import httpx
from bench_routing_chats import Answered, Message, Summary, Talk, summary, talks

from routing_sim import real
from routing_sim.engine import Card
from routing_sim.replay import POLICIES, replayed

CHECKOUT = Path(__file__).resolve().parents[2]
TOLERANCE = 0.15
SLOTS, CONTEXT = 2, 2048
ROUNDS = 3
TEMPLATE_TOKENS = 6
"""What a chat template puts around a system prompt."""


@dataclass(frozen=True)
class Compared:
    """A policy's figures on real servers and on simulated ones."""

    policy: str
    real: Summary
    simulated: Summary

    @property
    def ttft_error(self) -> float:
        """How far the simulated mean time to the first token is from the real one, of the latter."""
        return self.simulated.ttft_mean_s / self.real.ttft_mean_s - 1

    @property
    def cached_error(self) -> float:
        """The same for the cached share of prompt tokens."""
        return self.simulated.cached_share / max(self.real.cached_share, 1e-9) - 1


def compare(
    count: int, turns: int, *, seed: int, each_s: float, rounds: int = ROUNDS
) -> tuple[dict[str, Card], float, list[Compared]]:
    """Start two servers, measure them, and hold the same conversations under each policy, really and simulated.

    Returns the servers' figures, how much one that computes slows the other, and what was found.

    Args:
        count: conversations.
        turns: of each.
        seed: of what is said and when.
        each_s: seconds between two that begin; pauses between turns are twice as long.
        rounds: of the measurement.
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
        return asyncio.run(_compare(servers, count, turns, seed, each_s, rounds))


async def _compare(
    servers: Sequence[real.Server], count: int, turns: int, seed: int, each_s: float, rounds: int
) -> tuple[dict[str, Card], float, list[Compared]]:
    salt = f"{time.time():.0f}"
    cards = await real.measured(servers, slots=SLOTS, context=CONTEXT, salt=f"m{salt}", rounds=rounds)
    contention = await real.contention(servers, salt=f"c{salt}", rounds=rounds)
    runs: Mapping[str, Callable[[Sequence[Talk]], Awaitable[tuple[list[Answered], dict[str, list[Message]]]]]] = {
        "round-robin": lambda given: real.by_turns(given, servers),
        "corral": lambda given: real.routed(given, servers, Random(seed)),
    }
    found = []
    for policy in POLICIES:
        given = talks(seed, count, turns, salt=f"{policy} {salt}", each_s=each_s, thinks_s=2 * each_s)
        answers, asked = await runs[policy](given)
        tokens = {one.system: _counted(servers[0], one.system) for one in given}
        again = replayed(policy, given, answers, asked, cards, contention, system_tokens=tokens, seed=seed)
        found.append(Compared(policy, summary(answers), summary(again)))
    return cards, contention, found


def _counted(server: real.Server, text: str) -> int:
    answer = httpx.post(
        f"{server.url}/tokenize", json={"content": text}, headers={"authorization": f"Bearer {server.key}"}, timeout=30
    )
    answer.raise_for_status()
    return len(answer.json()["tokens"]) + TEMPLATE_TOKENS


def main(*, conversations: int, turns: int, seed: int, each_s: float, json_to: Path | None) -> int:
    """Print both, side by side; return 1 where they differ by more than the tolerance."""
    cards, contention, found = compare(conversations, turns, seed=seed, each_s=each_s)
    columns = ("server", "prefill", "after 1,000 tokens", "decode", "a further stream", "before each answer")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, card in cards.items():
        further = card.prefill_rate / (1 + 1000 * card.reach)
        speeds = f"{card.prefill_rate:.0f} tokens/s | {further:.0f} tokens/s | {card.decode_rate:.0f} tokens/s"
        print(f"| {name} | {speeds} | +{card.sharing:.0%} | {card.overhead_s * 1000:.0f} ms |")
    print(f"\nWhile both compute each takes {contention:.0%} longer.")
    print("\n| policy | servers | TTFT mean | median | p95 | cached share | moved |\n|---|---|---|---|---|---|---|")
    for one in found:
        for kind, got in (("real", one.real), ("simulated", one.simulated)):
            times = f"{got.ttft_mean_s:.2f} s | {got.ttft_median_s:.2f} s | {got.ttft_p95_s:.2f} s"
            print(f"| {one.policy} | {kind} | {times} | {got.cached_share:.0%} | {got.moved} |")
        print(f"| {one.policy} | difference | {one.ttft_error:+.0%} | | | {one.cached_error:+.0%} | |")
    if json_to is not None:
        document = {
            "cards": {name: asdict(card) for name, card in cards.items()},
            "contention": contention,
            "compared": [{**asdict(one), "ttft": one.ttft_error, "cached": one.cached_error} for one in found],
        }
        json_to.write_text(json.dumps(document, indent=1) + "\n")
    far = [one.policy for one in found if max(abs(one.ttft_error), abs(one.cached_error)) > TOLERANCE]
    if far:
        print(f"\nfurther apart than {TOLERANCE:.0%}: {', '.join(far)}", file=sys.stderr)
    return 1 if far else 0
