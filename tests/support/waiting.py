"""Wait for conditions with a deadline, never for a fixed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float, what: str, interval_s: float = 0.05) -> T:
    """Call `condition` until it gives something true and return that; AssertionError after `timeout_s`.

    An exception from `condition` counts as not yet, and is shown if the deadline passes.
    """
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except Exception as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}; last: {last!r}")
        time.sleep(interval_s)


async def wait_until_async(
    condition: Callable[[], Awaitable[T]], timeout_s: float, what: str, interval_s: float = 0.05
) -> T:
    """As `wait_until`, for a coroutine function."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            last = await condition()
            if last:
                return last
        except Exception as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}; last: {last!r}")
        await asyncio.sleep(interval_s)
