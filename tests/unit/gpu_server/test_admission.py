"""Who goes to llama-server, in which order, and who is turned away."""

import asyncio

import pytest

from gpu_server.admission import Admission, QueueFullError


def open_gate(slots: int = 1, max_queue: int = 8) -> Admission:
    admission = Admission(slots, max_queue)
    admission.open()
    return admission


async def line_up(admission: Admission, count: int, order: list[int]) -> list[asyncio.Task[None]]:
    async def one(number: int) -> None:
        await admission.enter(60)
        order.append(number)

    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(0)
    return tasks


async def test_never_more_than_the_slots_and_the_rest_in_order() -> None:
    admission, order = open_gate(slots=2), []
    tasks = await line_up(admission, 5, order)
    assert (admission.busy, admission.queued, order) == (2, 3, [0, 1])
    for expected in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
        admission.leave()
        await asyncio.sleep(0)
        assert order == expected
    assert (admission.busy, admission.queued) == (2, 0)
    await asyncio.gather(*tasks)


async def test_a_full_line_turns_away() -> None:
    admission = open_gate(max_queue=1)
    tasks = await line_up(admission, 2, [])
    with pytest.raises(QueueFullError):
        await admission.enter(60)
    admission.leave()
    await asyncio.gather(*tasks)


async def test_a_wait_ends_at_its_time_and_leaves_no_trace() -> None:
    admission = open_gate()
    await admission.enter(1)
    with pytest.raises(TimeoutError):
        await admission.enter(0.01)
    assert (admission.busy, admission.queued) == (1, 0)
    admission.leave()
    assert admission.busy == 0


async def test_who_gives_up_waiting_does_not_keep_the_slot() -> None:
    admission, order = open_gate(), []
    await admission.enter(1)
    first, second = await line_up(admission, 2, order)
    admission.leave()  # hands the slot to the first in the very moment it gives up
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert order == [1]
    assert (admission.busy, admission.queued) == (1, 0)


async def test_a_shut_gate_holds_everyone_until_it_opens() -> None:
    admission, order = Admission(2, 8), []
    tasks = await line_up(admission, 3, order)
    assert (admission.busy, admission.queued) == (0, 3)
    admission.open()
    await asyncio.gather(*tasks[:2])
    assert (order, admission.busy, admission.queued) == ([0, 1], 2, 1)
    admission.shut()
    admission.leave()
    await asyncio.sleep(0)
    assert (admission.busy, admission.queued) == (1, 1)
    admission.turn_away(lambda: ValueError("failed"))
    with pytest.raises(ValueError, match="failed"):
        await tasks[2]
    assert (admission.busy, admission.queued) == (1, 0)


async def test_retry_after_follows_the_measured_time_of_a_request() -> None:
    admission = open_gate(slots=2)
    for _ in range(40):
        await admission.enter(1)
        admission.leave(took_s=10.0)
    assert admission.retry_after_s() == 5
    for _ in range(40):
        await admission.enter(1)
        admission.leave(took_s=0.01)
    assert admission.retry_after_s() == 1
