"""A simulated gpu-server with its llama-server: slots, a line, prefill and decode speeds, prompts remembered.

Prompts are read one after another, as llama-server fills its batches slot by slot; each further stream slows all by
the same share. What it remembers is in `memory`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from corral_routing.prompts import Prompt
from corral_routing.reports import Load, Status
from routing_sim.clock import Clock
from routing_sim.memory import Memory

SHARING = 0.3
OVERHEAD_S = 0.015
"""What LiteLLM, the network and an empty prefill add to each request."""


@dataclass(frozen=True)
class Card:
    """A server's figures.

    Speeds are tokens/s with one stream, of which each further one takes `sharing`; `tokens_kept` is what its memory
    holds besides slots; `overhead_s` comes before each answer's first token, whatever its prompt.
    """

    slots: int = 4
    max_queue: int = 16
    context: int = 8192
    prefill_rate: float = 500.0
    decode_rate: float = 30.0
    tokens_kept: int = 100_000
    sharing: float = SHARING
    overhead_s: float = OVERHEAD_S


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
        self._memory = Memory(card.slots, card.tokens_kept)

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
        self._memory = Memory(self.card.slots, self.card.tokens_kept)
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
        slot, request.cached = self._memory.begin(request.prompt, request.tokens)
        uncached = max(1, request.tokens[-1] - request.cached)
        self.prefilled_tokens += uncached
        self._reading_until = max(clock.now, self._reading_until) + uncached / (self.card.prefill_rate * self.speed)

        def first() -> None:
            if self.generation == generation and id(request) in self._running:
                request.first_token = clock.now
                began(request)
                per_token = (1 + self.card.sharing * (len(self._running) - 1)) / (self.card.decode_rate * self.speed)
                clock.after(request.answer_tokens * per_token, end)

        def end() -> None:
            if self.generation != generation or id(request) not in self._running:
                return
            self._running.discard(id(request))
            del self._requests[id(request)]
            self.served += 1
            self._memory.end(slot, request.prompt, request.tokens, request.answer_tokens)
            if self._line:
                self._start(self._line.popleft(), began)
            if request.done:
                request.done(request, True)

        clock.at(self._reading_until + self.card.overhead_s, first)
