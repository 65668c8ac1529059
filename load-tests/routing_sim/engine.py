"""What a llama-server computes: prompts in batches, and a token for each stream at a time.

Its loop puts a token of each stream and as much of the waiting prompts as fits into one batch. All prompts of which a
batch has the end get their first token when all of it is computed: one that shares a batch waits for the others in it.
While prompts are read the streams so get one token a batch; between prompts all go on together, each further one
slowing all by the same share. A prompt waits for the batch under way, or for half of a step of the streams. Tokens
cost more the further back they look.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from routing_sim.clock import Timer

SHARING = 0.3
OVERHEAD_S = 0.015
"""What LiteLLM, the network and an empty prefill add to each request."""
DONE_BELOW = 1e-9
"""Seconds, or tokens, that rounding may leave."""


@dataclass(frozen=True)
class Card:
    """A server's figures.

    Speeds are tokens/s with one stream, of which each further one takes `sharing`; `reach` is the share by which a
    prompt's token costs more for each token before it; `batch` is tokens computed in one go; `tokens_kept` is what its
    memory holds besides slots; `overhead_s` comes before each answer's first token, whatever its prompt.
    """

    slots: int = 4
    max_queue: int = 16
    context: int = 8192
    prefill_rate: float = 500.0
    decode_rate: float = 30.0
    tokens_kept: int = 100_000
    sharing: float = SHARING
    overhead_s: float = OVERHEAD_S
    reach: float = 0.0
    batch: int = 512

    def prefill_s(self, cached: int, tokens: int) -> float:
        """Return the seconds that the tokens after `cached` take a server that does nothing else."""
        return (tokens - cached) * (1 + self.reach * (tokens + cached) / 2) / self.prefill_rate


class Host:
    """A machine whose servers slow each other while more than one computes; those on GPUs of their own need none."""

    def __init__(self, contention: float) -> None:
        """Start without servers.

        Args:
            contention: the share by which each further one that computes slows all.
        """
        self._contention = contention
        self.engines: list[Engine] = []

    def slowdown(self) -> float:
        """Return how many times longer all take now."""
        return 1 + self._contention * max(0, sum(engine.computes for engine in self.engines) - 1)


@dataclass
class _Prompt:
    """What is still to be read of a prompt, and the seconds that takes at speed 1."""

    tokens: int
    seconds: float
    done: Callable[[], None]


class Engine:
    """One server's computing; calls back when a prompt is read, or a stream has its tokens."""

    def __init__(self, clock: Timer, card: Card, speed: float, host: Host | None = None) -> None:
        """Start idle.

        Args:
            clock: the simulation's.
            card: figures of a server of speed 1.
            speed: times as fast.
            host: the machine, where it is shared.
        """
        self._clock, self._card, self._speed, self._host = clock, card, speed, host
        self._prompts: deque[_Prompt] = deque()
        self._batch_s = 0.0  # of the batch under way, at speed 1; none: 0
        self._ends: list[Callable[[], None]] = []  # the prompts whose end it has
        self._streams: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._read = 0.0  # seconds' worth of that batch
        self._written = 0.0  # tokens that a stream would have which was there from the start
        self._reading = self._writing = 0.0  # what is done of both in a second, until something changes
        self._at = 0.0
        self._plan = 0
        self.computes = False
        if host is not None:
            host.engines.append(self)

    def read(self, tokens: int, seconds: float, done: Callable[[], None]) -> None:
        """Read a prompt of so many tokens, which alone takes so many seconds at speed 1."""
        self._advance()
        self._prompts.append(_Prompt(max(1, tokens), seconds, done))
        if not self._batch_s:
            self._fill_batch(0.5 / self._decode_rate() if self._streams else 0.0)
        self._changed()

    def write(self, tokens: int, done: Callable[[], None]) -> None:
        """Write so many tokens."""
        self._advance()
        heapq.heappush(self._streams, (self._written + tokens, next(self._order), done))
        self._changed()

    def stop(self) -> None:
        """Drop all work; nothing of it calls back."""
        self._advance()
        self._prompts.clear()
        self._ends.clear()
        self._streams.clear()
        self._read = self._batch_s = 0.0
        self._changed()

    def change_speed(self, speed: float) -> None:
        """Become so many times as fast as the card says."""
        self._advance()
        self._speed = speed
        self._go_on()

    def update(self) -> None:
        """Take note that the host has become faster or slower."""
        self._advance()
        self._go_on()

    def _advance(self) -> None:
        passed = self._clock.now - self._at
        self._at = self._clock.now
        self._read += passed * self._reading
        self._written += passed * self._writing

    def _changed(self) -> None:
        before, self.computes = self.computes, bool(self._batch_s or self._streams)
        if self._host is not None and before != self.computes:
            for other in self._host.engines:
                if other is not self:
                    other.update()
        self._go_on()

    def _fill_batch(self, wait_s: float = 0.0) -> None:
        """Begin a batch with what waits, if anything does, after waiting so long."""
        self._read, self._batch_s = 0.0, wait_s if self._prompts else 0.0
        room = max(1, self._card.batch - len(self._streams))
        while self._prompts and room:
            prompt = self._prompts[0]
            now = min(prompt.tokens, room)
            seconds = prompt.seconds * now / prompt.tokens
            self._batch_s += max(seconds, DONE_BELOW)
            prompt.tokens, prompt.seconds = prompt.tokens - now, prompt.seconds - seconds
            room -= now
            if not prompt.tokens:
                self._ends.append(self._prompts.popleft().done)

    def _decode_rate(self) -> float:
        """Return tokens/s of each stream at speed 1, no prompt being read."""
        return self._card.decode_rate / (1 + self._card.sharing * (len(self._streams) - 1))

    def _go_on(self) -> None:
        """Find the speeds from now on, and when something will be done."""
        self._plan += 1
        self._reading = self._writing = 0.0
        if not self.computes:
            return
        pace = self._speed / (self._host.slowdown() if self._host else 1.0)
        due_s = float("inf")
        if self._batch_s:
            self._reading = pace
            due_s = (self._batch_s - self._read) / pace
        if self._streams:
            self._writing = pace * min(self._decode_rate(), 1 / self._batch_s if self._batch_s else float("inf"))
            due_s = min(due_s, (self._streams[0][0] - self._written) / self._writing)
        plan = self._plan
        self._clock.after(max(0.0, due_s), lambda: self._due(plan))

    def _due(self, plan: int) -> None:
        if plan != self._plan:
            return  # something changed since
        self._advance()
        done = list[Callable[[], None]]()
        if self._batch_s and self._batch_s - self._read <= DONE_BELOW:
            done, self._ends = self._ends, done
            self._fill_batch()
        while self._streams and self._streams[0][0] - self._written <= DONE_BELOW:
            done.append(heapq.heappop(self._streams)[2])
        self._changed()
        for call in done:
            call()
