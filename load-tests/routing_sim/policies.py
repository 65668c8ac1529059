"""Who chooses: LiteLLM's simple-shuffle, its least-busy, round robin, smg's, and the routing hook's own router.

A gate has several workers. Least-busy counts in each by itself, and ties go to the first in the list, as LiteLLM
1.106.2 does without Redis; the hook's workers tell one another what they picked.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Protocol

from corral_routing.router import FullError, Router, Usage
from routing_sim.clock import Clock
from routing_sim.server import Expected, Request, SimulatedServer

POLL_S = 0.6
"""As often as the hook's poller asks silent servers."""


class Policy(Protocol):
    """What the gate asks and tells."""

    def pick(self, call: str, worker: int, request: Request, able: Sequence[str]) -> str | None:
        """Return a server; None: refuse."""

    def began(self, call: str, worker: int, server: SimulatedServer) -> None:
        """An answer began."""

    def ended(self, call: str, worker: int, request: Request, now: float) -> None:
        """An answer ended."""

    def failed(self, call: str, worker: int, server: str, why: str, now: float) -> None:
        """A try failed: `full` or `down`."""


class Unaware:
    """What the baselines do with news: nothing."""

    def began(self, call: str, worker: int, server: SimulatedServer) -> None:
        """See `Policy`."""

    def ended(self, call: str, worker: int, request: Request, now: float) -> None:
        """See `Policy`."""

    def failed(self, call: str, worker: int, server: str, why: str, now: float) -> None:
        """See `Policy`."""


class Shuffle(Unaware):
    """One of them, by chance."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def pick(self, call: str, worker: int, request: Request, able: Sequence[str]) -> str | None:
        """See `Policy`."""
        return self._random.choice(able)


class RoundRobin(Unaware):
    """One after another, in each worker."""

    def __init__(self, workers: int) -> None:
        self._turns = [itertools.count() for _ in range(workers)]

    def pick(self, call: str, worker: int, request: Request, able: Sequence[str]) -> str | None:
        """See `Policy`."""
        return able[next(self._turns[worker]) % len(able)]


class LeastBusy(Unaware):
    """The one with the fewest requests of this worker; the first of them."""

    def __init__(self, workers: int) -> None:
        self._counts: list[Counter[str]] = [Counter() for _ in range(workers)]

    def pick(self, call: str, worker: int, request: Request, able: Sequence[str]) -> str | None:
        """See `Policy`."""
        counts = self._counts[worker]
        server = min(able, key=lambda name: counts[name])
        counts[server] += 1
        return server

    def ended(self, call: str, worker: int, request: Request, now: float) -> None:
        """See `Policy`."""
        self._counts[worker][request.server] -= 1

    def failed(self, call: str, worker: int, server: str, why: str, now: float) -> None:
        """See `Policy`."""
        self._counts[worker][server] -= 1


class CacheAware(Unaware):
    """What `smg` does by its default policy, `cache_aware`, after its source of August 2026; it is one process.

    The server that first took the longest known beginning of a prompt, if that is more than CACHE_THRESHOLD of it;
    else, and where the loads are far apart, the one with the fewest requests under way, of those the one that had the
    fewest so far. Its tree compares letters and drops what was not used for long; here whole messages are compared, and
    all are kept.
    """

    CACHE_THRESHOLD = 0.3
    BALANCE_ABS_THRESHOLD = 64
    BALANCE_REL_THRESHOLD = 1.5

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()
        self._had: Counter[str] = Counter()
        self._first: dict[int, str] = {}

    def pick(self, call: str, worker: int, request: Request, able: Sequence[str]) -> str | None:
        """See `Policy`."""
        prompt = request.prompt
        loads = [self._under_way[name] for name in able]
        server = min(able, key=lambda name: (self._under_way[name], self._had[name]))
        apart = max(loads) - min(loads) > self.BALANCE_ABS_THRESHOLD
        if not (apart and max(loads) > min(loads) * self.BALANCE_REL_THRESHOLD):
            known = list(itertools.takewhile(self._first.__contains__, prompt.nodes))
            if known and prompt.chars[len(known) - 1] > self.CACHE_THRESHOLD * prompt.chars[-1]:
                first = self._first[known[-1]]
                server = first if first in able else able[0]
        for node in prompt.nodes:
            self._first.setdefault(node, server)
        self._under_way[server] += 1
        self._had[server] += 1
        return server

    def ended(self, call: str, worker: int, request: Request, now: float) -> None:
        """See `Policy`."""
        self._under_way[request.server] -= 1

    def failed(self, call: str, worker: int, server: str, why: str, now: float) -> None:
        """See `Policy`."""
        self._under_way[server] -= 1


class Ours:
    """The hook's router, one for each worker, with polls as often as it sends them."""

    def __init__(self, workers: int, servers: Sequence[SimulatedServer], clock: Clock, random: Random) -> None:
        self._routers = [Router(Random(random.random())) for _ in range(workers)]
        self._servers = servers
        self._clock = clock
        self._random = random
        for router in self._routers:
            for server in servers:
                clock.after(random.uniform(0, POLL_S), partial(self._poll, router, server))

    def pick(self, call: str, worker: int, request: Request, able: Sequence[str]) -> str | None:
        """See `Policy`."""
        try:
            choice = self._routers[worker].pick(call, able, request.prompt, self._clock.now)
        except FullError:
            return None
        if choice is None:
            return able[0]
        server = self._routers[worker].servers[choice.chosen.name]
        request.expected = Expected(choice.chosen, server.holding_s)
        for router in self._others(worker):
            router.heard(call, choice.chosen.name, request.prompt, self._clock.now)
        return choice.chosen.name

    def began(self, call: str, worker: int, server: SimulatedServer) -> None:
        """See `Policy`."""
        self._routers[worker].began(call, server.load, self._clock.now)

    def ended(self, call: str, worker: int, request: Request, now: float) -> None:
        """See `Policy`."""
        first_s = None if request.first_token is None else request.first_token - request.arrived
        usage = Usage(request.tokens[-1], request.cached, request.answer_tokens, first_s, now - request.arrived)
        self._routers[worker].ended(call, usage, now)
        for router in self._others(worker):
            router.heard_end(call, request.server, now, answered=True)

    def failed(self, call: str, worker: int, server: str, why: str, now: float) -> None:
        """See `Policy`."""
        pick = self._routers[worker].failed(call, now, full=why == "full")
        if pick is not None and pick.prompt is not None:
            for router in self._others(worker):
                router.unheard(call, server, pick.prompt, now)

    def _others(self, worker: int) -> list[Router]:
        return [router for number, router in enumerate(self._routers) if number != worker]

    def _poll(self, router: Router, server: SimulatedServer) -> None:
        now = self._clock.now
        router.reported(server.name, server.status(), now, now)
        self._clock.after(POLL_S * self._random.uniform(0.8, 1.2), partial(self._poll, router, server))
