"""Ends the work on a request for a reason that comes from outside it: its client left, or a deadline passed.

    with Guard(watch, client) as guard:
        guard.allow(600, lambda: ApiError(504, ...))  # how long nothing may move, and what is wrong if it does
        data = await answer.read()
        guard.moved = time.perf_counter()             # something did

A deadline a wait would cost a timer for every token. Instead a `Watch` looks at all guards five times a second while
there are any; a token costs one clock reading.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

TICK_S = 0.2


class ClientGoneError(Exception):
    """The client hung up."""


class ClientStalledError(Exception):
    """The client stopped reading."""


class Client(Protocol):
    """What a guard needs of the client's connection."""

    on_lost: Callable[[], None] | None  # called once when it is lost

    def hold_next(self) -> None:
        """Keep the next write, to go out with the one after it."""

    @property
    def gone(self) -> bool:
        """Whether it is lost already."""

    @property
    def unread(self) -> int:
        """Bytes that wait here because the client does not read them."""


class Watch:
    """Looks at the guards of all requests in turn."""

    def __init__(self) -> None:
        self._guards: set[Guard] = set()
        self._next: asyncio.TimerHandle | None = None

    def add(self, guard: "Guard") -> None:
        """Look at `guard` from now on."""
        self._guards.add(guard)
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(TICK_S, self._look)

    def remove(self, guard: "Guard") -> None:
        """Look at it no more."""
        self._guards.discard(guard)

    def _look(self) -> None:
        self._next = None
        now = time.perf_counter()
        for guard in tuple(self._guards):
            guard.look(now)
        if self._guards:
            self._next = asyncio.get_running_loop().call_later(TICK_S, self._look)


class Guard:
    """Raises ClientGoneError, ClientStalledError or the reason given to `allow` in the block it guards."""

    __slots__ = (
        "_cancelling", "_limit_s", "_reason", "_stall_s", "_stopped_for", "_task", "_unread", "_watch",
        "client", "moved", "sending",
    )  # fmt: skip

    def __init__(self, watch: Watch, client: Client, stall_s: float) -> None:
        self.moved = 0.0
        self.sending = 0.0  # since when it is the client's turn, which must read within `stall_s`; 0: it is not
        self._watch = watch
        self.client = client
        self._stall_s = stall_s
        self._limit_s: float | None = None
        self._reason: Callable[[], Exception] = TimeoutError
        self._stopped_for: Exception | None = None
        self._unread = 0

    def allow(self, limit_s: float | None, reason: Callable[[], Exception] = TimeoutError) -> None:
        """Let nothing move for up to `limit_s` from now (None: for ever)."""
        self.moved = time.perf_counter()
        self._limit_s = limit_s
        self._reason = reason

    def stop(self, reason: Exception) -> None:
        """End the work; the block raises `reason`. Only for callers outside the task."""
        if self._stopped_for is None:
            self._stopped_for = reason
            self._task.cancel()

    def look(self, now: float) -> None:
        """End the work if its time is up."""
        if self.sending:
            unread = self.client.unread
            if unread != self._unread:  # it read something
                self._unread = unread
                self.sending = now
            elif now - self.sending > self._stall_s:
                self.stop(ClientStalledError())
        elif self._limit_s is not None and now - self.moved > self._limit_s:
            self.stop(self._reason())

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a guard works inside a task only")
        if self.client.gone:
            raise ClientGoneError
        self._task: asyncio.Task[object] = task
        self._cancelling = task.cancelling()
        self.client.on_lost = self._lost
        self._watch.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.on_lost = None
        self._watch.remove(self)
        if self._stopped_for is not None and self._task.uncancel() <= self._cancelling:
            raise self._stopped_for from None

    def _lost(self) -> None:
        self.stop(ClientGoneError())
