"""Runs: a farm, a policy and a workload."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from routing_sim import workloads
from routing_sim.clock import Clock
from routing_sim.engine import Card
from routing_sim.gate import Gate
from routing_sim.outcome import Outcome, Run, outcome
from routing_sim.policies import CacheAware, LeastBusy, Ours, Policy, RoundRobin, Shuffle
from routing_sim.server import Request, SimulatedServer

AFTER_S = 600.0
"""Time for what is under way at the end."""
POLICIES = ("simple-shuffle", "round-robin", "least-busy", "smg", "corral")


@dataclass(frozen=True)
class Workload:
    """What clients do. Intervals are seconds a chat or prompt for a server of speed 1; more speed gets as much more.

    `shared_tokens` is what all single prompts begin with, `lost_at` when a server dies for a minute.
    """

    name: str
    chat_each_s: float | None = None
    prompt_each_s: float | None = None
    burst: int = 1
    shared_tokens: int = 0
    speeds: tuple[float, ...] = (1.0,)
    lost_at: float | None = None


WORKLOADS = (
    Workload("chats", chat_each_s=90),
    Workload("one-shot prompts", prompt_each_s=6),
    Workload("prompts that begin alike, light", prompt_each_s=20, shared_tokens=200),
    Workload("bursts of 16", prompt_each_s=8, burst=16),
    Workload("chats and prompts", chat_each_s=150, prompt_each_s=15),
    Workload("uneven servers, nearly full", prompt_each_s=3.2, speeds=(1.0, 2.0, 4.0)),
    Workload("chats, a server lost for 60 s", chat_each_s=90, lost_at=600),
)


def run(
    workload: Workload,
    policy: str,
    servers: int,
    *,
    seed: int,
    until: float,
    workers: int,
    card: Card,
    rounds: int = 1,
) -> Outcome:
    """Simulate a farm of so many servers for `until` seconds, in rounds that start anew, each with its own seed."""
    return outcome([_round(workload, policy, servers, seed + number, until, workers, card) for number in range(rounds)])


def _round(workload: Workload, policy: str, servers: int, seed: int, until: float, workers: int, card: Card) -> Run:
    clock, random = Clock(), Random(seed)
    speeds = [workload.speeds[number % len(workload.speeds)] for number in range(servers)]
    farm = [SimulatedServer(f"chat-{n + 1}", card, clock, speed) for n, speed in enumerate(speeds)]
    gate = Gate(_policy(policy, workers, farm, clock, seed), farm, clock, Random(seed + 1), workers)
    best = _Best()

    def send(request: Request) -> None:
        best.see(request)
        gate.send(request)

    if workload.chat_each_s:
        each_s = workload.chat_each_s / sum(speeds)
        workloads.chats(clock, Random(random.random()), send, each_s=each_s, until=until)
    if workload.prompt_each_s:
        workloads.one_shots(
            clock, Random(random.random()), send, each_s=workload.prompt_each_s / sum(speeds), until=until,
            burst=workload.burst, shared_tokens=workload.shared_tokens,
        )  # fmt: skip
    if workload.lost_at is not None:
        clock.at(workload.lost_at, lambda: max(farm, key=lambda server: server.served).fail(60))
    clock.run(until + AFTER_S)
    return Run(gate, farm, best.cached, until)


def _policy(name: str, workers: int, farm: Sequence[SimulatedServer], clock: Clock, seed: int) -> Policy:
    made: dict[str, Callable[[], Policy]] = {
        "simple-shuffle": lambda: Shuffle(Random(seed + 2)),
        "round-robin": lambda: RoundRobin(workers),
        "least-busy": lambda: LeastBusy(workers),
        "smg": CacheAware,
        "corral": lambda: Ours(workers, farm, clock, Random(seed + 2)),
    }
    return made[name]()


class _Best:
    """A cache without end that all servers share."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self.cached = 0

    def see(self, request: Request) -> None:
        cached = 0
        for node, tokens in zip(request.prompt.nodes, request.tokens, strict=True):
            if node not in self._seen:
                break
            cached = tokens
        answered = next((n for n, tokens in enumerate(request.tokens) if tokens == cached), 0) + 1
        if 1 < answered < len(request.tokens) - 1:
            cached = request.tokens[answered]  # the answer was generated there too
        self.cached += cached
        self._seen.update(request.prompt.nodes)
