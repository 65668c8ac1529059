"""Try again what may pass: a server that is down for a moment, a line that breaks."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from corral.models.errors import ModelError

T = TypeVar("T")


class TransientError(Exception):
    """May well pass. `retry_after_s` is what the server asked for, if it did."""

    def __init__(self, cause: str, retry_after_s: float | None = None) -> None:
        super().__init__(cause)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Patience:
    """How often in a row, and how long apart, something is tried."""

    attempts: int = 6
    first_s: float = 1.0
    longest_s: float = 30.0
    longest_asked_s: float = 120.0

    def delay_s(self, failures: int) -> float:
        """Return how long to wait after so many failures: doubled each time, less up to a half of jitter."""
        return float(min(self.longest_s, self.first_s * 2 ** (failures - 1)) * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret


async def persist(
    work: Callable[[], Awaitable[T]],
    patience: Patience,
    say: Callable[[str], None],
    done: Callable[[], int] = lambda: 0,
) -> T:
    """Return what `work` returns, trying again after each TransientError.

    Args:
        work: one attempt.
        patience: when to give up.
        say: gets a line about each wait.
        done: how far it is; failures count anew after an attempt that came further.

    Raises:
        ModelError: too many attempts in a row failed, or the server asks for more patience than there is.
    """
    failures, reached = 0, done()
    while True:
        try:
            return await work()
        except TransientError as fault:
            if done() > reached:
                failures, reached = 0, done()
            failures += 1
            asked_s = fault.retry_after_s or 0.0
            if asked_s > patience.longest_asked_s:
                raise ModelError(f"{fault}; the server asks to wait {asked_s:.0f} s", "try again then") from fault
            if failures >= patience.attempts:
                mend = "check the network and the server, then pull again: what was fetched is kept"
                raise ModelError(f"{fault}; tried {failures} times", mend) from fault
            delay_s = max(asked_s, patience.delay_s(failures))
            say(f"{fault}; trying again in {delay_s:.0f} s")
        await asyncio.sleep(delay_s)
