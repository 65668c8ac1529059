"""Runs the parts of a farm.

First every part is brought to ready once, each as soon as what it needs is there; the first failure ends the
start, and everything that was started is stopped again. From then on the farm is `running`: a service that ends
or stops answering is started again, with growing pauses, until SIGTERM.

| phase    | a part ends                     | SIGTERM      |
|----------|---------------------------------|--------------|
| starting | the start has failed: stop all  | stop all     |
| running  | start it again after a pause    | stop all     |
| stopping | as wanted                       | nothing more |

While it runs, `change` replaces parts one after another. One that does not come up is put back as it was, and the
change says why it failed.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence

from corral.farmstate import Change, Failure, FarmState
from corral.keeper.backoff import Backoff
from corral.keeper.changes import ChangeRequest
from corral.keeper.child import Child, last_lines, rotate
from corral.keeper.last_words import exit_words, telling_line
from corral.keeper.probe import listener_is, probe
from corral.keeper.record import Record, part_state
from corral.parts import Part
from corral.paths import StateDir
from corral.ports import holder

PROBE_STARTING_S = 0.15
PROBE_RUNNING_S = 5.0
UNANSWERED_S = 60.0
"""A service that has not answered for this long is killed and started again."""

_log = logging.getLogger(__name__)


class StartFailedError(Exception):
    """A part did not come up.

    Args:
        part: its name.
        cause: its own last words, one line.
        mend: what to look at.
    """

    def __init__(self, part: str, cause: str, mend: str) -> None:
        super().__init__(cause)
        self.failure = Failure(part, cause, mend)


class Keeper:
    """Owns the processes of a farm and the file that tells of them."""

    def __init__(self, state: StateDir, parts: Sequence[Part], farm: FarmState) -> None:
        self._state = state
        self._parts = {part.name: part for part in parts}
        self._farm = farm
        self._record = Record(state, farm)
        self._ready = {part.name: asyncio.Event() for part in parts}
        self._children: dict[str, Child] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._before: dict[str, Part] = {}
        self._changes: asyncio.Queue[ChangeRequest] = asyncio.Queue()

    def change(self, request: ChangeRequest) -> None:
        """Do one step of a change, once the farm runs and earlier steps are done."""
        self._changes.put_nowait(request)

    async def run(self, stop: asyncio.Event) -> bool:
        """Start the farm and keep it until `stop` is set. Returns whether it came up."""
        came_up = False
        try:
            came_up = await self._unless(stop, self._start())
            if came_up:
                self._farm.phase = "running"
                self._record.write()
                await self._unless(stop, self._watch_all())
        except StartFailedError as error:
            self._farm.failure = error.failure
        finally:
            await self._stop_all()
            self._farm.phase = "failed" if self._farm.failure else "stopped"
            self._record.write()
        return came_up

    @staticmethod
    async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
        """Run `work` until it ends or `stop` is set; return whether it ended. Its error is raised as it is."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return True
            return False
        finally:
            for each in (task, stopped):
                each.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _start(self) -> None:
        tasks = [asyncio.ensure_future(self._bring_up(part)) for part in self._parts.values()]
        try:
            for finished in asyncio.as_completed(tasks):
                await finished
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _bring_up(self, part: Part) -> None:
        """Start one part for the first time and wait until it is ready or done."""
        waiting = [need for need in part.needs if not self._ready[need].is_set()]
        if waiting:
            self._record.set(part, "waiting", "for " + " and ".join(waiting))
        for need in part.needs:
            await self._ready[need].wait()
        try:
            child = self._spawn(part)
        except OSError as error:
            cause = f"{part.argv[0]} cannot be started: {error.strerror}"
            self._record.set(part, "failed", cause)
            raise StartFailedError(part.name, cause, "install anew: make clean && make up") from None
        await self._until_up(part, child)
        self._ready[part.name].set()

    async def _until_up(self, part: Part, child: Child) -> None:
        """Wait until a job is done or a service is ready; StartFailedError if that does not come."""
        deadline = time.monotonic() + part.ready_timeout_s
        while child.exit_code is None:
            if time.monotonic() > deadline:
                raise self._failed(part, child, f"not ready after {part.ready_timeout_s:.0f} s")
            if part.kind == "job":
                self._record.detail(part, " ".join(last_lines(self._state.log_file(part.name), child.log_start, 1)))
            else:
                answer = await probe(part)
                if answer.ready and child.exit_code is None:
                    if not await asyncio.to_thread(listener_is, child.pid, part.port):
                        raise self._failed(part, child, f"port {part.port} was taken by {holder(part.port)} meanwhile")
                    self._record.set(part, "ready")
                    return
                if answer.gave_up:
                    raise self._failed(part, child, answer.detail)
                self._record.detail(part, answer.detail)
            await asyncio.sleep(PROBE_STARTING_S)
        if part.kind != "job" or child.exit_code != 0:
            raise self._failed(part, child, f"ended with {exit_words(child.exit_code)}")
        self._record.set(part, "done")

    def _failed(self, part: Part, child: Child, what: str) -> StartFailedError:
        words = telling_line(last_lines(self._state.log_file(part.name), child.log_start, 40))
        cause = f"{what}: {words}" if words else what
        self._record.set(part, "failed", cause)
        return StartFailedError(part.name, cause, f"its log has more: {self._state.log_file(part.name)}")

    async def _watch_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for part in self._parts.values():
                if part.kind == "service":
                    self._watchers[part.name] = group.create_task(self._watch(part))
            while True:
                await self._change(await self._changes.get(), group)

    async def _change(self, request: ChangeRequest, group: asyncio.TaskGroup) -> None:
        change = self._farm.change = Change(request.id)
        try:
            for name in request.remove:
                await self._remove(name)
            for part in request.parts:
                await self._replace(part, group)
            for name in request.restore:
                if name in self._before:
                    await self._replace(self._before[name], group)
            if request.models is not None:
                self._farm.models, self._farm.modes = list(request.models), request.models
        except StartFailedError as error:
            change.failure = error.failure
        change.done = True
        self._record.write()

    async def _remove(self, name: str) -> None:
        """Stop a part for good."""
        if name in self._parts:
            await self._retire(name)
            self._before[name] = self._parts[name]
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._farm.parts.remove(self._farm.part(name))
        del self._parts[name], self._ready[name]
        self._children.pop(name, None)
        self._record.write()

    async def _replace(self, part: Part, group: asyncio.TaskGroup) -> None:
        """Start a part, in the place of the one of its name; if it does not come up, that one runs again."""
        before = self._parts.get(part.name)
        if before is not None:
            await self._retire(part.name)
            self._before[part.name] = before
        try:
            await self._try(part)
        except StartFailedError:
            if part.name in self._children:
                await self._children[part.name].stop()
            if before is None:
                self._forget(part.name)
            else:
                await self._try(before)
                self._watchers[part.name] = group.create_task(self._watch(before))
            raise
        self._watchers[part.name] = group.create_task(self._watch(part))

    async def _try(self, part: Part) -> None:
        """Start a part and wait until it is ready."""
        if part.name not in self._parts:
            self._farm.parts.append(part_state(part))
            self._ready[part.name] = asyncio.Event()
        self._parts[part.name] = part
        state, fresh = self._record.part(part), part_state(part)
        state.address, state.port, state.revision = fresh.address, fresh.port, fresh.revision
        await self._bring_up(part)

    async def _retire(self, name: str) -> None:
        """Stop a part that is to be replaced, when its work is done."""
        watcher = self._watchers.pop(name, None)
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])
        self._ready[name].clear()
        self._record.set(self._parts[name], "stopping", "finishes its work, to be replaced")
        await self._children[name].stop(self._parts[name].drain_timeout_s)
        self._record.set(self._parts[name], "stopped")

    async def _watch(self, part: Part) -> None:
        """Keep one service running for ever."""
        backoff = Backoff()
        child: Child | None = self._children[part.name]
        while True:
            if child is not None:
                why = await self._until_it_must_restart(part, child)
                await child.stop()
                backoff.died(time.monotonic() - child.started)
                self._record.part(part).restarts += 1
                self._record.set(part, "failed" if backoff.failed else "restarting", why)
            await asyncio.sleep(backoff.delay_s())
            try:
                child = self._spawn(part)
            except OSError as error:
                child = None
                backoff.died(0)
                self._record.set(part, "failed", f"{part.argv[0]} cannot be started: {error.strerror}")

    async def _until_it_must_restart(self, part: Part, child: Child) -> str:
        """Return why: its end, or a minute without an answer."""
        answered = time.monotonic()
        while True:
            state = self._record.part(part).state
            code = await child.wait(PROBE_STARTING_S if state == "starting" else PROBE_RUNNING_S)
            if code is not None:
                return f"ended with {exit_words(code)}"
            self._rotate(part)
            answer = await probe(part)
            now = time.monotonic()
            if answer.ready or answer.detail:  # one that says why it does not serve, a gpu-server, mends itself
                answered = now
                self._record.set(part, "ready" if answer.ready else "not ready", answer.detail)
            elif state != "starting" or now - child.started > part.ready_timeout_s:
                self._record.set(part, "not answering")
                if now - answered > UNANSWERED_S:
                    return f"did not answer for {UNANSWERED_S:.0f} s"

    def _rotate(self, part: Part) -> None:
        try:
            rotate(self._state.log_file(part.name))
        except OSError as error:
            _log.warning("the log of %s is not rotated: %s", part.name, error)

    async def _stop_all(self) -> None:
        """Stop every process; a part only after all that need it."""
        self._farm.phase = "stopping"
        running = {
            name for name, child in self._children.items() if child.exit_code is None or child.part.kind == "service"
        }
        for name in running:
            if self._farm.part(name).state != "failed":
                self._record.set(self._parts[name], "stopping")
        stopped = {name: asyncio.Event() for name in running}

        async def stop(name: str) -> None:
            for other in running:
                if name in self._parts[other].needs:
                    await stopped[other].wait()
            await self._children[name].stop()
            if self._farm.part(name).state != "failed":  # what failed stays to be seen
                self._record.set(self._parts[name], "stopped")
            self._farm.part(name).pid = None
            stopped[name].set()

        await asyncio.gather(*(stop(name) for name in running))

    def _spawn(self, part: Part) -> Child:
        child = Child(part, self._state.log_file(part.name))
        self._children[part.name] = child
        state = self._record.part(part)
        state.pid, state.pid_created = child.pid, child.created
        self._record.set(part, "starting")
        return child
