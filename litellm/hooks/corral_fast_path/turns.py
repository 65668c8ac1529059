"""Lets requests begin one after the other, and the loop do what else it has to in between.

To begin a request is milliseconds of CPU in the thread that passes tokens on. Of a hundred that come at once each would
take its milliseconds in the same round of the loop, and a token of a stream under way would wait for all of them. Here
each round begins one. None is held by another that waits for a database: a turn is not given back, it is over.
"""

import asyncio
from collections import deque

MOST = 500
"""Of those who wait: with more, whoever comes begins at once, rather than after seconds."""


class Turns:
    """First come, first served; one a round of the event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self) -> None:
        """Wait for one's turn."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # of a loop that has ended nobody waits any more
            self._loop, self._waiting = loop, deque()
        if len(self._waiting) >= MOST:
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._next)
        await turn

    def _next(self) -> None:
        turn = self._waiting[0]
        if not turn.done():  # else who waited has gone
            turn.set_result(None)
        self._waiting.popleft()
        if self._waiting and self._loop is not None:
            self._loop.call_soon(self._next)


turns = Turns()
"""Of this process: of requests that begin, and of the bookkeeping of those that are over."""
