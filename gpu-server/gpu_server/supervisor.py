"""Keeps one llama-server running: one loop that takes observations, asks `states.step` and does what it says.

What touches the operating system is passed in (`spawn`, `clock`, `chance`), so tests run it without processes.

    supervisor = Supervisor(spawn)
    task = asyncio.create_task(supervisor.run())
    await supervisor.until(lambda now: now.can_serve, timeout_s=60)
    ...
    await supervisor.shut_down()
"""

import asyncio
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from gpu_server.states import (
    Action,
    Cause,
    Exited,
    Observation,
    Outcome,
    Phase,
    Resume,
    Snapshot,
    Stop,
    Tick,
    step,
)

TERM_GRACE_S = 5.0

_log = logging.getLogger(__name__)


class Child(Protocol):
    """What the supervisor needs of a process."""

    @property
    def pid(self) -> int:
        """Its process id."""

    async def wait(self) -> int:
        """Return its exit code once it ended."""

    def send(self, sign: signal.Signals) -> None:
        """Signal its whole group, if it still runs."""


Spawn = Callable[[int], Awaitable[Child]]
OnChange = Callable[[Snapshot, Outcome], None]


class Supervisor:
    """The only one who starts and ends llama-server; everyone else tells it what they see."""

    def __init__(
        self,
        spawn: Spawn,
        on_change: OnChange = lambda _before, _outcome: None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        term_grace_s: float = TERM_GRACE_S,
    ) -> None:
        self.snapshot = Snapshot()
        self.losses: Counter[Cause] = Counter()
        self._last_loss: Cause | None = None
        self.child: Child | None = None
        self._spawn = spawn
        self._on_change = on_change
        self._clock = clock
        self._chance = chance
        self._grace_s = term_grace_s
        self._inbox: asyncio.Queue[Observation] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """The llama-server that runs, if one does."""
        return None if self.child is None else self.child.pid

    def tell(self, seen: Observation) -> None:
        """Hand over an observation or a command; it is dealt with in order."""
        self._inbox.put_nowait(seen)

    async def until(self, condition: Callable[[Snapshot], bool], timeout_s: float) -> Snapshot:
        """Wait for a snapshot that meets `condition` and return it.

        Raises:
            TimeoutError: None came within `timeout_s`.
        """
        async with asyncio.timeout(timeout_s):
            while not condition(self.snapshot):
                await self._changed.wait()
        return self.snapshot

    def why_failed(self) -> str | None:
        """Return what happened to a server that has failed, for people; None for any other."""
        if self.snapshot.phase is not Phase.FAILED or self._last_loss is None:
            return None
        deaths, cause = self.snapshot.quick_deaths, self._last_loss.value
        hint = ", which a binary built for another CPU also does" if self._last_loss is Cause.SIGNAL else ""
        return f"llama-server ended {deaths} times soon after its start, the last time by {cause}{hint}"

    async def run(self) -> None:
        """Start llama-server and keep it running until cancelled; then kill what is left of it."""
        self.tell(Resume())
        try:
            while True:
                await self._apply(await self._next())
        finally:
            for task in self._tasks:
                task.cancel()
            if self.child is not None:
                self.child.send(signal.SIGKILL)
                await self.child.wait()

    async def shut_down(self) -> None:
        """End llama-server (SIGTERM, then SIGKILL) and return when it is gone."""
        self.tell(Stop())
        await self.until(lambda now: now.phase is Phase.STOPPED and not now.running, self._grace_s + 5)

    async def _next(self) -> Observation:
        due = self.snapshot.next_start
        wait_s = None if due is None else max(0.0, due - self._clock())
        try:
            async with asyncio.timeout(wait_s):
                return await self._inbox.get()
        except TimeoutError:
            return Tick()

    async def _apply(self, seen: Observation) -> None:
        before = self.snapshot
        outcome = step(before, seen, self._clock(), self._chance())
        self.snapshot = outcome.snapshot
        if outcome.lost_to is not None:
            self.losses[outcome.lost_to] += 1
            self._last_loss = outcome.lost_to
        if outcome.snapshot != before:
            self._on_change(before, outcome)
            self._changed.set()
            self._changed = asyncio.Event()
        await self._do(outcome.action)

    async def _do(self, action: Action | None) -> None:
        if action is Action.SPAWN:
            await self._start(self.snapshot.generation)
        elif self.child is not None and action is Action.KILL:
            self.child.send(signal.SIGKILL)
        elif self.child is not None and action is Action.TERMINATE:
            self._background(self._terminate(self.child))

    async def _start(self, generation: int) -> None:
        try:
            child = await self._spawn(generation)
        except OSError as error:
            _log.error("llama-server cannot be started: %s", error)
            self.tell(Exited(generation, None))
            return
        self.child = child
        self._background(self._watch(child, generation))

    async def _watch(self, child: Child, generation: int) -> None:
        code = await child.wait()
        self.child = None
        self.tell(Exited(generation, code))

    async def _terminate(self, child: Child) -> None:
        child.send(signal.SIGTERM)
        await asyncio.sleep(self._grace_s)
        child.send(signal.SIGKILL)  # does nothing to one that has ended

    def _background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
