"""A simulated gpu-server with its llama-server: slots, a line, prompts remembered.

What it remembers is in `memory`, how fast it reads and writes in `engine`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from corral_routing.choice import Estimate
from corral_routing.prompts import Prompt
from corral_routing.reports import Load, Status
from routing_sim.clock import Timer
from routing_sim.engine import Card, Engine, Host
from routing_sim.memory import Memory


@dataclass
class Request:
    """One request of a workload, and what became of it.

    Args:
        prompt: its chain, whose characters vary a token.
        tokens: of each prefix of it.
        answer_tokens: to write.
        arrived: when the gate took it; as all times, of its last try, None where that has not come to it.
        cached: tokens that its slot had.
        started: when it got its slot.
        first_token: when its answer began.
        ended: when it had all of it.
        done: is called then, or when it failed.
        server: that has it.
        tries: made.
        failed_on: servers that failed it.
        expected: what the routing hook's router believed when it chose.
    """

    prompt: Prompt
    tokens: tuple[int, ...]
    answer_tokens: int
    arrived: float = 0.0
    cached: int = 0
    started: float | None = None
    first_token: float | None = None
    ended: float | None = None
    done: Callable[["Request", bool], None] | None = None
    server: str = ""
    tries: int = 0
    failed_on: set[str] = field(default_factory=set)
    expected: "Expected | None" = None


class Expected(NamedTuple):
    """What was believed of a request's server: the terms of its estimate, and how long a request holds a slot."""

    estimate: Estimate
    holding_s: float


Began = Callable[[Request], None]
"""Called with a request whose answer begins."""


class SimulatedServer:
    """Takes requests and says when they begin and end."""

    def __init__(self, name: str, card: Card, clock: Timer, speed: float = 1.0, host: Host | None = None) -> None:
        self.name = name
        self.card = card
        self.speed = speed
        self.up = True
        self.generation = 1
        self.prefilled_tokens = 0
        self.served = 0
        self._clock = clock
        self._line: deque[tuple[Request, Began]] = deque()
        self._running: set[int] = set()
        self._requests: dict[int, Request] = {}
        self._memory = Memory(card.slots, card.tokens_kept)
        self._engine = Engine(clock, card, speed, host)

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

    def take(self, request: Request, began: Began) -> str:
        """Take a request; returns `taken`, `full` or `down`. `request.done` is called at its end."""
        if not self.up:
            return "down"
        if len(self._running) >= self.card.slots:
            if len(self._line) >= self.card.max_queue:
                return "full"
            self._line.append((request, began))
            return "taken"
        self._start(request, began)
        return "taken"

    def change_speed(self, speed: float) -> None:
        """Become so many times as fast as its card says."""
        self.speed = speed
        self._engine.change_speed(speed)

    def fail(self, down_s: float) -> None:
        """Die: every request it has fails, all is forgotten; it is back after `down_s`."""
        self.up = False
        lost = [*self._requests.values(), *(request for request, _ in self._line)]
        self._running.clear()
        self._requests.clear()
        self._line.clear()
        self._memory = Memory(self.card.slots, self.card.tokens_kept)
        self._engine.stop()
        for request in lost:
            if request.done:
                request.done(request, False)

        def back() -> None:
            self.up = True
            self.generation += 1

        self._clock.after(down_s, back)

    def _start(self, request: Request, began: Began) -> None:
        clock, generation = self._clock, self.generation
        self._running.add(id(request))
        self._requests[id(request)] = request
        request.started = clock.now
        slot, request.cached = self._memory.begin(request.prompt, request.tokens)
        self.prefilled_tokens += request.tokens[-1] - request.cached

        def first() -> None:
            if self.generation == generation and id(request) in self._running:
                request.first_token = clock.now
                began(request)
                self._engine.write(request.answer_tokens, end)

        def end() -> None:
            if self.generation != generation or id(request) not in self._running:
                return
            self._running.discard(id(request))
            del self._requests[id(request)]
            request.ended = clock.now
            self.served += 1
            self._memory.end(slot, request.prompt, request.tokens, request.answer_tokens)
            if self._line:
                self._start(*self._line.popleft())
            if request.done:
                request.done(request, True)

        seconds = self.card.prefill_s(request.cached, request.tokens[-1])
        self._engine.read(
            request.tokens[-1] - request.cached, seconds, lambda: clock.after(self.card.overhead_s, first)
        )
