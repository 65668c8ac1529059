"""The gate: gives each request to a worker, sends it where the policy says, and tries again elsewhere."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from random import Random

from routing_sim.clock import Clock
from routing_sim.policies import Policy
from routing_sim.server import Request, SimulatedServer

Client = Callable[[Request, bool], None] | None
TRIES = 3
COOLDOWN_S = 5.0
CONNECT_S = 0.002


class Gate:
    """Counts what became of requests; `answered` keeps those that were."""

    def __init__(
        self, policy: Policy, servers: Sequence[SimulatedServer], clock: Clock, random: Random, workers: int
    ) -> None:
        self._policy = policy
        self._servers: Mapping[str, SimulatedServer] = {server.name: server for server in servers}
        self._clock = clock
        self._random = random
        self._workers = workers
        self._calls = itertools.count()
        self._cooling: dict[str, float] = {}
        self.answered: list[Request] = []
        self.refused = 0
        self.failed = 0
        self.picks: dict[str, int] = dict.fromkeys(self._servers, 0)

    def send(self, request: Request) -> None:
        """Take a request from a client."""
        request.arrived = self._clock.now
        self._try(str(next(self._calls)), self._random.randrange(self._workers), request, request.done)

    def _try(self, call: str, worker: int, request: Request, client: Client) -> None:
        request.tries += 1
        able = self._able(request)
        name = self._policy.pick(call, worker, request, able)
        if name is None:
            self.refused += 1
            return
        server = self._servers[name]
        request.server, request.started, request.first_token, request.ended = name, None, None, None
        self.picks[name] += 1

        def done(_request: Request, well: bool) -> None:
            if well:
                self._policy.ended(call, worker, request, self._clock.now)
                self.answered.append(request)
                if client:
                    client(request, True)
            elif request.first_token is not None:
                self.failed += 1  # a stream that had begun cannot be tried again
                self._policy.failed(call, worker, name, "down", self._clock.now)
            else:
                self._again(call, worker, request, client, "down")

        request.done = done
        why = server.take(request, lambda _request: self._policy.began(call, worker, server))
        if why != "taken":
            self._again(call, worker, request, client, why)

    def _able(self, request: Request) -> list[str]:
        """Return the servers that LiteLLM's cooldowns and the hook `corral_retries` leave."""
        warm = [name for name in self._servers if self._cooling.get(name, 0) <= self._clock.now] or list(self._servers)
        return [name for name in warm if name not in request.failed_on] or warm

    def _again(self, call: str, worker: int, request: Request, client: Client, why: str) -> None:
        name = request.server
        self._policy.failed(call, worker, name, why, self._clock.now)
        request.failed_on.add(name)
        if why == "down":
            self._cooling[name] = self._clock.now + COOLDOWN_S
        if request.tries < TRIES:
            self._clock.after(CONNECT_S, lambda: self._try(call, worker, request, client))
        elif why == "full":
            self.refused += 1
        else:
            self.failed += 1
