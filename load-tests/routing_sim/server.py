"""A simulated gpu-server with its llama-server: slots, a line, prefill and decode speeds, prompts remembered.

Prompts are read one after another, as llama-server fills its batches slot by slot; each further stream slows all by
the same share. Prompts are kept whole and forgotten least recently used first, once slots and host memory are full.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from corral_routing.prompts import Prompt
from corral_routing.reports import Load, Status
from routing_sim.clock import Clock

SHARING = 0.3
OVERHEAD_S = 0.015
"""What LiteLLM, the network and an empty prefill add to each request."""


@dataclass(frozen=True)
class Card:
    """A server's figures. Speeds are tokens/s with one stream; tokens_kept is what its memory holds besides slots."""

    slots: int = 4
    max_queue: int = 16
    context: int = 8192
    prefill_rate: float = 500.0
    decode_rate: float = 30.0
    tokens_kept: int = 100_000


@dataclass
class Request:
    """One request of a workload. `tokens` are those of each prefix of `prompt`, whose characters vary a token."""

    prompt: Prompt
    tokens: tuple[int, ...]
    answer_tokens: int
    arrived: float = 0.0
    cached: int = 0
    first_token: float | None = None
    done: Callable[["Request", bool], None] | None = None
    server: str = ""
    tries: int = 0
    failed_on: set[str] = field(default_factory=set)
    started: float = 0.0


class SimulatedServer:
    """Takes requests and says when they begin and end."""

    def __init__(self, name: str, card: Card, clock: Clock, speed: float = 1.0) -> None:
        self.name = name
        self.card = card
        self.speed = speed
        self.up = True
        self.generation = 1
        self.prefilled_tokens = 0
        self.served = 0
        self._clock = clock
        self._line: deque[Request] = deque()
        self._running: set[int] = set()
        self._requests: dict[int, Request] = {}
        self._reading_until = 0.0
        self._kept: OrderedDict[int, tuple[Prompt, int]] = OrderedDict()
        self._prefixes: dict[int, int] = {}
        self._kept_tokens = 0

    @property
    def load(self) -> Load:
        """What its headers say."""
        return Load(len(self._running), len(self._line), self.card.slots)

    def status(self) -> Status:
        """What its `/status` says."""
        card = self.card
        return Status(
            "ready" if self.up else "restarting", self.load, card.max_queue, card.context, self.generation,
            card.decode_rate * self.speed, card.prefill_rate * self.speed,
        )  # fmt: skip

    def take(self, request: Request, began: Callable[[Request], None]) -> str:
        """Take a request; returns `taken`, `full` or `down`. `request.done` is called at its end."""
        if not self.up:
            return "down"
        if len(self._running) >= self.card.slots:
            if len(self._line) >= self.card.max_queue:
                return "full"
            request.started = -1.0
            self._line.append(request)
            self._waiting_began = began
            return "taken"
        self._start(request, began)
        return "taken"

    def fail(self, down_s: float) -> None:
        """Die: every request it has fails, all is forgotten; it is back after `down_s`."""
        self.up = False
        lost = [*self._requests.values(), *self._line]
        self._running.clear()
        self._requests.clear()
        self._line.clear()
        self._kept.clear()
        self._prefixes.clear()
        self._kept_tokens = 0
        self._reading_until = 0.0
        for request in lost:
            if request.done:
                request.done(request, False)

        def back() -> None:
            self.up = True
            self.generation += 1

        self._clock.after(down_s, back)

    def _start(self, request: Request, began: Callable[[Request], None]) -> None:
        clock, generation = self._clock, self.generation
        self._running.add(id(request))
        self._requests[id(request)] = request
        request.cached = self._cached(request)
        uncached = max(1, request.tokens[-1] - request.cached)
        self.prefilled_tokens += uncached
        self._reading_until = max(clock.now, self._reading_until) + uncached / (self.card.prefill_rate * self.speed)
        self._keep(request)

        def first() -> None:
            if self.generation == generation and id(request) in self._running:
                request.first_token = clock.now
                began(request)
                per_token = (1 + SHARING * (len(self._running) - 1)) / (self.card.decode_rate * self.speed)
                clock.after(request.answer_tokens * per_token, end)

        def end() -> None:
            if self.generation != generation or id(request) not in self._running:
                return
            self._running.discard(id(request))
            del self._requests[id(request)]
            self.served += 1
            if self._line:
                self._start(self._line.popleft(), began)
            if request.done:
                request.done(request, True)

        clock.at(self._reading_until + OVERHEAD_S, first)

    def _cached(self, request: Request) -> int:
        depth = 0
        for node in request.prompt.nodes:
            if node not in self._prefixes:
                break
            depth += 1
        if not depth:
            return 0
        leaf = request.prompt.nodes[depth - 1]
        if leaf in self._kept and depth < len(request.tokens):
            depth += 1  # its answer too was generated here
        return min(request.tokens[depth - 1], request.tokens[-1] - 1)

    def _keep(self, request: Request) -> None:
        nodes = request.prompt.nodes
        for node in reversed(nodes):
            if node in self._kept:
                self._drop(node)
                break
        tokens = request.tokens[-1] + request.answer_tokens
        self._kept[nodes[-1]] = (request.prompt, tokens)
        self._kept_tokens += tokens
        for node in nodes:
            self._prefixes[node] = self._prefixes.get(node, 0) + 1
        most = self.card.slots * self.card.context + self.card.tokens_kept
        while self._kept_tokens > most and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, leaf: int) -> None:
        prompt, tokens = self._kept.pop(leaf)
        self._kept_tokens -= tokens
        for node in prompt.nodes:
            self._prefixes[node] -= 1
            if not self._prefixes[node]:
                del self._prefixes[node]
