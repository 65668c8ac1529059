"""Trying again: how often, how long, and when not."""

import pytest

from corral.models.errors import ModelError
from corral.models.persistence import Patience, TransientError, persist


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    delays: list[float] = []

    async def sleep(delay_s: float) -> None:
        delays.append(delay_s)

    monkeypatch.setattr("corral.models.persistence.asyncio.sleep", sleep)
    return delays


class Work:
    """Fails with each of `faults` in turn, then is done; comes `step` further with each attempt."""

    def __init__(self, *faults: TransientError, step: int = 0) -> None:
        self.faults = list(faults)
        self.step = step
        self.done = 0

    async def __call__(self) -> str:
        self.done += self.step
        if self.faults:
            raise self.faults.pop(0)
        return "done"


async def test_waits_grow_up_to_a_limit(slept: list[float]) -> None:
    said: list[str] = []
    work = Work(*[TransientError("busy")] * 7)
    assert await persist(work, Patience(attempts=8, first_s=1, longest_s=8), said.append) == "done"
    for delay_s, longest_s in zip(slept, [1, 2, 4, 8, 8, 8, 8], strict=True):
        assert longest_s / 2 <= delay_s <= longest_s
    assert len(said) == 7


async def test_failures_in_a_row_end_it(slept: list[float]) -> None:
    with pytest.raises(ModelError, match="busy; tried 3 times; check the network"):
        await persist(Work(*[TransientError("busy")] * 9), Patience(attempts=3), lambda _: None)
    assert len(slept) == 2


async def test_progress_makes_failures_count_anew(slept: list[float]) -> None:
    work = Work(*[TransientError("cut")] * 9, step=1)
    assert await persist(work, Patience(attempts=3), lambda _: None, lambda: work.done) == "done"


async def test_a_server_that_asks_for_more_time_gets_it(slept: list[float]) -> None:
    assert await persist(Work(TransientError("busy", 60.0)), Patience(), lambda _: None) == "done"
    assert slept == [60.0]


async def test_a_server_that_asks_for_hours_does_not(slept: list[float]) -> None:
    with pytest.raises(ModelError, match="asks to wait 7200 s"):
        await persist(Work(TransientError("busy", 7200.0)), Patience(), lambda _: None)
    assert slept == []
