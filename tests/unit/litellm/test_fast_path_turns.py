"""Requests that begin at once: one a round, in the order they came, and nobody waits for who has gone."""

import asyncio

import pytest

from corral_fast_path import turns as module
from corral_fast_path.turns import Turns


async def rounds_until(tasks: list[asyncio.Task[int]]) -> list[int]:
    """In which round of the loop each task ended."""
    ended: dict[int, int] = {}
    for number in range(100):
        for index, task in enumerate(tasks):
            if task.done():
                ended.setdefault(index, number)
        if len(ended) == len(tasks):
            break
        await asyncio.sleep(0)
    return [ended[index] for index in range(len(tasks))]


def begin(turns: Turns, number: int, order: list[int]) -> asyncio.Task[int]:
    async def one() -> int:
        await turns.wait()
        order.append(number)
        return number

    return asyncio.create_task(one())


def test_one_begins_a_round_in_the_order_they_came() -> None:
    async def run() -> None:
        turns, order = Turns(), list[int]()
        tasks = [begin(turns, number, order) for number in range(5)]
        ended = await rounds_until(tasks)
        assert order == [0, 1, 2, 3, 4]
        assert len(set(ended)) == 5  # what else the loop has to do comes in between

    asyncio.run(run())


def test_who_has_gone_costs_the_next_no_more_than_a_round() -> None:
    async def run() -> None:
        turns, order = Turns(), list[int]()
        tasks = [begin(turns, number, order) for number in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait_for(tasks[2], 5)
        assert order == [0, 2]

    asyncio.run(run())


def test_a_crowd_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)

    async def run() -> None:
        turns, order = Turns(), list[int]()
        tasks = [begin(turns, number, order) for number in range(4)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order[:2] == [2, 3]
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_loop_that_ended_with_some_waiting_holds_nobody_of_the_next() -> None:
    turns = Turns()

    async def leave() -> None:
        begin(turns, 0, [])
        await asyncio.sleep(0)

    async def come() -> None:
        await asyncio.wait_for(turns.wait(), 5)

    asyncio.run(leave())
    asyncio.run(come())
