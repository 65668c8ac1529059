"""What ends the work on a request from outside."""

import asyncio
import time
from collections.abc import Callable

import pytest

from gpu_server.guard import ClientGoneError, ClientStalledError, Guard, Watch


class Client:
    def __init__(self) -> None:
        self.gone = False
        self.unread = 0
        self.on_lost: Callable[[], None] | None = None

    def hold_next(self) -> None: ...


async def wait_under(guard: Guard, prepare: Callable[[Guard], object]) -> None:
    """Wait for ever, guarded."""
    with guard:
        prepare(guard)
        await asyncio.get_running_loop().create_future()


async def test_a_client_that_leaves_ends_the_work() -> None:
    client = Client()

    def lose(_guard: Guard) -> None:
        assert client.on_lost is not None
        asyncio.get_running_loop().call_soon(client.on_lost)

    with pytest.raises(ClientGoneError):
        await wait_under(Guard(Watch(), client, 60), lose)
    assert client.on_lost is None
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()
    client.gone = True
    with pytest.raises(ClientGoneError):
        await wait_under(Guard(Watch(), client, 60), lambda _: pytest.fail("work for a client that is gone"))


async def test_a_deadline_counts_from_the_last_movement() -> None:
    began = time.perf_counter()

    def move(guard: Guard) -> None:
        guard.allow(0.3, lambda: ValueError("late"))
        guard.moved += 0.4

    with pytest.raises(ValueError, match="late"):
        await wait_under(Guard(Watch(), Client(), 60), move)
    assert time.perf_counter() - began >= 0.7


async def test_a_client_that_reads_slowly_is_not_cut_off_and_one_that_stops_is() -> None:
    client = Client()
    client.unread = 10
    reads = iter(range(9, 4, -1))
    began = time.perf_counter()

    class Reading(Watch):
        def _look(self) -> None:
            client.unread = next(reads, client.unread)
            super()._look()

    with pytest.raises(ClientStalledError):
        await wait_under(Guard(Reading(), client, 0.5), lambda guard: setattr(guard, "sending", time.perf_counter()))
    assert time.perf_counter() - began > 5 * 0.2 + 0.5


async def test_cancelling_from_elsewhere_is_passed_on() -> None:
    task = asyncio.create_task(wait_under(Guard(Watch(), Client(), 60), lambda _: None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
