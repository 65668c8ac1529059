"""Simulated time: events in the order of their times, none of them waited for; or the time of an event loop."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """What a simulated server needs of a clock; `now` is in seconds."""

    @property
    def now(self) -> float:
        """The time."""

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let `action` happen in so many seconds."""


class Clock:
    """`now` is in seconds and moves from event to event."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Let `action` happen at `time`, or now if that is over."""
        heapq.heappush(self._events, (max(time, self.now), next(self._order), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let `action` happen in so many seconds."""
        self.at(self.now + seconds, action)

    def run(self, until: float) -> None:
        """Let all happen that is due until then."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until


class LoopClock:
    """The time of an event loop: servers in real time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @property
    def now(self) -> float:
        """Seconds, as the loop counts them."""
        return self._loop.time()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let `action` happen in so many seconds."""
        self._loop.call_later(seconds, action)
