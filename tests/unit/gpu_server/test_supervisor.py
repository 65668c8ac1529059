"""The supervisor's loop, without processes: spawner and clock are the test's."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gpu_server.states import Cause, Healthy, Phase, Resume, Stalled
from gpu_server.supervisor import Supervisor
from support.waiting import wait_until_async


class FakeChild:
    """Ends when the test says so, or on SIGKILL; ignores SIGTERM if stubborn."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.pid = 1
        self.signals: list[signal.Signals] = []
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._stubborn = stubborn

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def send(self, sign: signal.Signals) -> None:
        self.signals.append(sign)
        if not self.ended.done() and (sign is signal.SIGKILL or not self._stubborn):
            self.ended.set_result(-sign)


class Farm:
    """Spawns fake children; `broken` spawns fail."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.children: list[FakeChild] = []
        self.broken = False
        self.now = 0.0
        self._stubborn = stubborn

    async def spawn(self, _generation: int) -> FakeChild:
        if self.broken:
            raise FileNotFoundError("llama-server")
        self.children.append(FakeChild(stubborn=self._stubborn))
        return self.children[-1]


@asynccontextmanager
async def supervised(farm: Farm) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(farm.spawn, clock=lambda: farm.now, chance=lambda: 0.5, term_grace_s=0.05)
    running = asyncio.create_task(supervisor.run())
    await supervisor.until(lambda now: now.generation == 1, 1)
    try:
        yield supervisor
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_child_that_ends_is_replaced_after_its_backoff() -> None:
    farm = Farm()
    async with supervised(farm) as supervisor:
        supervisor.tell(Healthy(1))
        await supervisor.until(lambda now: now.can_serve, 1)
        farm.children[0].ended.set_result(1)
        await supervisor.until(lambda now: now.phase is Phase.RESTARTING, 1)
        assert len(farm.children) == 1
        farm.now = 10.0  # the wait is over; the loop looks again when something is said, or its real timer fires
        await supervisor.until(lambda now: now.generation == 2, 1)
        assert len(farm.children) == 2
        assert supervisor.losses == {Cause.EXIT: 1}


async def test_a_stalled_child_is_killed() -> None:
    farm = Farm(stubborn=True)
    async with supervised(farm) as supervisor:
        supervisor.tell(Stalled(1, Cause.NO_PROGRESS))
        await wait_until_async(lambda: asyncio.sleep(0, farm.children[0].ended.done()), 1, "its end")
        assert farm.children[0].signals == [signal.SIGKILL]


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    farm = Farm(stubborn=True)
    async with supervised(farm) as supervisor:
        await supervisor.shut_down()
        assert farm.children[0].signals == [signal.SIGTERM, signal.SIGKILL]
        assert supervisor.snapshot.state == "stopped"
        supervisor.tell(Resume())
        await supervisor.until(lambda now: now.generation == 2, 1)


async def test_a_llama_server_that_cannot_be_started_is_tried_again() -> None:
    farm = Farm()
    farm.broken = True
    async with supervised(farm) as supervisor:
        await supervisor.until(lambda now: now.phase is Phase.RESTARTING, 1)
        assert supervisor.losses == {Cause.SPAWN: 1}
        farm.broken = False
        farm.now = 10.0
        await supervisor.until(lambda now: now.generation == 2, 1)


async def test_nothing_is_left_when_the_supervisor_is_cancelled() -> None:
    farm = Farm(stubborn=True)
    async with supervised(farm):
        pass
    assert farm.children[0].signals == [signal.SIGKILL]
