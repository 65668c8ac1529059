"""What `make bench-routing` asks of each router, and what came of it."""

from dataclasses import dataclass, field, replace

from bench_routing_chats import Lengths, Summary

LONG = Lengths(systems=(160, 480, 1200), says=(40, 160), shots=(150, 900), answers=(50, 200))
"""As on the simulated farms of `make routing-sim`: a word has some 5 characters, and 4 are a token there."""


@dataclass(frozen=True)
class Workload:
    """Conversations and single prompts; seconds between two beginnings, and between an answer and the next turn.

    `speeds` are the simulated servers', taken in turn; the third of them dies for LOST_S at `lost_at_s`.
    """

    name: str
    chats: int
    turns: tuple[int, int]
    shots: int
    each_s: float
    thinks_s: float
    burst: int = 1
    lengths: Lengths = field(default_factory=Lengths)
    speeds: tuple[float, ...] = (1.0,)
    lost_at_s: float | None = None


LOST_S = 10.0
REAL = (
    Workload("chats", chats=6, turns=(3, 6), shots=0, each_s=2.0, thinks_s=2.0),
    Workload("one-shot prompts", chats=0, turns=(1, 1), shots=16, each_s=0.8, thinks_s=1.0),
)
EIGHT = (
    Workload("chats", chats=14, turns=(3, 12), shots=0, each_s=1.5, thinks_s=2.0, lengths=LONG),
    Workload("one-shot prompts", chats=0, turns=(1, 1), shots=80, each_s=0.16, thinks_s=1.0, lengths=LONG),
    Workload("bursts of 16", chats=0, turns=(1, 1), shots=64, each_s=0.2, thinks_s=1.0, burst=16, lengths=LONG),
    Workload("uneven servers", chats=0, turns=(1, 1), shots=80, each_s=0.16, thinks_s=1.0, lengths=LONG,
             speeds=(0.25, 0.5, 1.0)),
    Workload("chats, a server lost", chats=10, turns=(3, 8), shots=0, each_s=1.5, thinks_s=2.0, lengths=LONG,
             lost_at_s=10.0),
)  # fmt: skip
WORKLOADS = {"real": REAL, "simulated": EIGHT}
"""By the servers they are for."""


@dataclass(frozen=True)
class Rounds:
    """What a router came to under a workload, round by round."""

    servers: int
    kind: str
    workload: str
    router: str
    rounds: tuple[Summary, ...]


def sized(workload: Workload, size: float) -> Workload:
    """Return a workload with as many times the conversations and prompts, at least two of each that it has."""
    chats, shots = (count and max(2, round(count * size)) for count in (workload.chats, workload.shots))
    return replace(workload, chats=chats, shots=shots)
