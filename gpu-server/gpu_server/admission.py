"""Who may go to llama-server now: at most `slots` requests, the rest in line in the order they came.

The gate is shut while llama-server is not ready; those who came before or meanwhile wait in the same line. A request
that finds the line full, or waits longer than its time, is refused: better an answer now than a slot too late.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class QueueFullError(Exception):
    """As many requests as may wait are waiting."""


class Admission:
    """Counts requests at llama-server (`busy`) and in line (`queued`)."""

    def __init__(self, slots: int, max_queue: int) -> None:
        self.slots = slots
        self.max_queue = max_queue
        self.busy = 0
        self._open = False
        self._line: deque[asyncio.Future[None]] = deque()
        self._seconds_per_request = 1.0

    @property
    def queued(self) -> int:
        """Requests in line."""
        return len(self._line)

    def open(self) -> None:
        """Let requests through: llama-server is ready."""
        self._open = True
        self._admit()

    def shut(self) -> None:
        """Hold requests back; those already through go on."""
        self._open = False

    def turn_away(self, reason: Callable[[], Exception]) -> None:
        """End every wait with an exception of its own, from `reason`."""
        while self._line:
            waiter = self._line.popleft()
            if not waiter.done():
                waiter.set_exception(reason())

    async def enter(self, timeout_s: float) -> None:
        """Take a slot, waiting in line for it up to `timeout_s`; `leave` must follow.

        Raises:
            QueueFullError: The line is full.
            TimeoutError: No slot came free in time.
        """
        if self._open and self.busy < self.slots and not self._line:
            self.busy += 1
            return
        if len(self._line) >= self.max_queue:
            raise QueueFullError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException:
            # The slot may have been handed over in the very moment the wait ended.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()
            elif turn in self._line:
                self._line.remove(turn)
            raise

    def leave(self, took_s: float | None = None) -> None:
        """Give the slot back; `took_s`, how long a whole answer took, sharpens `retry_after_s`."""
        self.busy -= 1
        if took_s is not None:
            self._seconds_per_request += 0.2 * (took_s - self._seconds_per_request)
        self._admit()

    def retry_after_s(self) -> int:
        """Return in how many seconds a slot is likely to be free for one who comes now (1 to 60)."""
        ahead = len(self._line) + 1
        return max(1, min(60, round(ahead * self._seconds_per_request / self.slots)))

    def _admit(self) -> None:
        while self._open and self._line and self.busy < self.slots:
            waiter = self._line.popleft()
            if not waiter.done():
                self.busy += 1
                waiter.set_result(None)
