"""A start that works is let be, however long it takes; one that does nothing is not."""

import os
from collections.abc import Iterator

import pytest

from gpu_server.loading import LoadWatch, Work, read_work


def verdicts(*works: Work | None, every_s: float = 5, idle_s: float = 10, generation: int = 1) -> list[bool]:
    readings: Iterator[Work | None] = iter(works)
    watch = LoadWatch(idle_s, lambda _pid: next(readings))
    return [watch.is_stuck(generation, 1, at * every_s) for at in range(2 * len(works) - 1)]


@pytest.mark.parametrize("moves", [Work(3.0, 0), Work(0.0, 1)], ids=["computes", "reads"])
def test_one_that_works_is_not_stuck(moves: Work) -> None:
    assert not any(verdicts(Work(0, 0), moves))


def test_one_that_only_answers_questions_is_stuck() -> None:
    assert verdicts(Work(1, 7), Work(1.1, 7)) == [False, False, True]


def test_work_counts_since_the_last_look_not_since_the_start() -> None:
    assert verdicts(Work(0, 0), Work(9, 0), Work(9.05, 0)) == [False, False, False, False, True]


def test_one_that_is_gone_is_not_stuck() -> None:
    assert not any(verdicts(Work(1, 7), None))


def test_the_next_start_is_watched_anew() -> None:
    watch = LoadWatch(10, lambda _pid: Work(1, 1))
    assert [watch.is_stuck(generation, 1, at) for generation, at in ((1, 0), (1, 9), (2, 11), (2, 20), (2, 22))] == [
        False, False, False, False, True,
    ]  # fmt: skip


def test_work_is_read_from_the_kernel() -> None:
    work = read_work(os.getpid())
    assert work is not None
    assert work.cpu_s > 0
    assert read_work(2**22 + 1) is None
