"""What is measured of each way, a round at a time, and what the rounds come to."""

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from gate_bench.client import Seen, ask
from gate_bench.ways import Way

QUIET = 0.04
"""Share of a core below which a gate counts as done with a load: its rows of spend are part of the cost."""
QUIET_S, LONGEST_SETTLE_S = 2, 30
RATE = 50
"""Tokens a second of a paced stream."""
PACED_STREAMS = (1, 8, 32, 128)
COSTED_STREAMS = 32
"""Of which the CPU of a paced token is taken: enough for a gate to have something to do, few enough for all to keep up.
"""
LONG_STREAMS = (COSTED_STREAMS, 128)
"""So many are longer, for they take a while to begin: else the first would be over before all are under way."""
STREAMS_AT_FULL_SPEED = 8
REST_S = 0.05
"""Between streams of which the first token is timed by itself, not with the logging of the one before."""
AT_LEAST_S = 0.5
"""That streams at full speed take: shorter ones cost no more than their requests scatter."""


@dataclass
class Measured:
    """The figures of one way: for each name, one of each round."""

    rounds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, value: float) -> None:
        """Take the figure of one round."""
        self.rounds[name].append(value)

    def median(self, name: str) -> float | None:
        """Return the median of the rounds; None if it was not measured."""
        return statistics.median(self.rounds[name]) if self.rounds.get(name) else None

    def spread(self, name: str) -> tuple[float, float] | None:
        """Return the least and the most of the rounds; None if there were not two."""
        values = self.rounds.get(name, [])
        return (min(values), max(values)) if len(values) > 1 else None


class Rounds:
    """Sends the loads. `scale` makes a round shorter or longer."""

    def __init__(self, scale: float) -> None:
        self._requests = max(5, int(60 * scale))
        self._tokens = max(100, int(2000 * scale))
        self._paced_tokens = max(20, int(100 * scale))
        self._costed_tokens = max(100, int(500 * scale))

    def warm(self, ways: Iterable[Way]) -> None:
        """Send a few requests each way, which are not counted."""
        for way in ways:
            _load(way, {}, 4, self._requests)
            _load(way, {"stream": True, "max_tokens": 10}, 4, 2)

    def ask_whole(self, way: Way) -> tuple[float, Seen]:
        """Send the load of which a request's CPU is taken: return that, in s, and what its clients saw."""
        return _load(way, {}, 8, self._requests)

    def measure(self, way: Way, into: Measured, *, whole_only: bool = False) -> None:
        """Run every load once; only those of whole answers, if that is wanted.

        CPU of tokens at full speed is that of long streams less that of as many streams of one token. Of paced ones it
        is what the gate takes while all are under way, its timers and polls included.

        Raises:
            SystemExit: a request failed.
        """
        cpu, seen = _load(way, {}, 1, self._requests)
        into.add("answer_ms", statistics.median(seen.answers) * 1e3)
        cpu, seen = self.ask_whole(way)
        into.add("request_cpu_ms", cpu / (8 * self._requests) * 1e3)
        into.add("requests_per_s", 8 * self._requests / seen.wall)
        if whole_only:
            return
        one = {"stream": True, "max_tokens": 1}
        few, _ = _load(way, one, STREAMS_AT_FULL_SPEED, 1)
        tokens = self._tokens
        many, seen = _load(way, {**one, "max_tokens": tokens}, STREAMS_AT_FULL_SPEED, 1)
        while seen.wall < AT_LEAST_S:
            tokens *= 10
            many, seen = _load(way, {**one, "max_tokens": tokens}, STREAMS_AT_FULL_SPEED, 1)
        tokens *= STREAMS_AT_FULL_SPEED
        into.add("token_cpu_us", max(0.0, many - few) / tokens * 1e6)
        into.add("tokens_per_s", tokens / seen.wall)
        for streams in PACED_STREAMS:
            length = self._costed_tokens if streams in LONG_STREAMS else self._paced_tokens
            _, seen = _load(way, {"stream": True, "max_tokens": length, "seed": RATE}, streams, 1)
            if streams == COSTED_STREAMS and seen.middle and seen.middle[1]:
                into.add("paced_token_cpu_us", seen.middle[0] / seen.middle[1] * 1e6)
            first = seen.first
            if streams == 1:  # of one stream alone a round would have one
                alone = {"stream": True, "max_tokens": 2, "seed": RATE}
                first = _load(way, alone, 1, self._requests, rest_s=REST_S)[1].first
            into.add(f"first_p50_ms.{streams}", _quantile(first, 0.5) * 1e3)
            into.add(f"first_p99_ms.{streams}", _quantile(first, 0.99) * 1e3)
            for when, delays in zip(("beginning", "under_way"), seen.delays_by_time(), strict=True):
                if delays:
                    into.add(f"{when}_p50_ms.{streams}", _quantile(delays, 0.5) * 1e3)
                    into.add(f"{when}_p99_ms.{streams}", _quantile(delays, 0.99) * 1e3)
        into.add("memory_mib", way.memory_mib())


def _load(
    way: Way, body: dict[str, object], connections: int, requests: int, rest_s: float = 0.0
) -> tuple[float, Seen]:
    """Return the CPU time of a load with its settling, in s, and what its clients saw."""
    before = way.cpu_s()
    try:
        seen = asyncio.run(ask(way.port, way.key, body, connections, requests, way.cpu_s, rest_s))
    except ExceptionGroup as failed:
        raise SystemExit(f"a request failed, {body}: {failed.exceptions[0]}") from failed
    if seen.refused:
        print(f"{seen.refused} requests were answered with 503 and asked again, {body}", file=sys.stderr)
    settle(way)
    return way.cpu_s() - before, seen


def settle(way: Way) -> None:
    """Wait until a gate that writes rows has written those of a load: they are part of its cost."""
    if not way.keeps_rows:
        return
    for _ in range(LONGEST_SETTLE_S // QUIET_S):
        before = way.cpu_s()
        time.sleep(QUIET_S)
        if way.cpu_s() - before < QUIET * QUIET_S:
            return


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
