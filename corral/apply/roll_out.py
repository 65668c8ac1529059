"""Carries out a change of a farm of containers: one service at a time, each proven before the next, or all put back."""

import shutil
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import httpx

from corral.apply.engine import Engine
from corral.apply.history import Entry, History, How
from corral.apply.on_hosts import PreparedHosts, Step
from corral.apply.probing import prove
from corral.errors import CorralError
from corral.farm import Server
from corral.farmstate import Failure
from corral.paths import StateDir
from corral.render.gpu_host import START_PERIOD_S
from corral.render.proxy_host import MIGRATIONS_S
from corral.render.writing import Change, write
from corral.signals import STOPPING, on_signals

_LOOK_EVERY_S = 0.5
_HEALTH_TIMEOUT_S = 3.0
_RESTARTS = 2
"""Of a container, while it starts: once may be bad luck."""
_GATES_PACE_S = 1.0
"""How much later than it should the gate may come back to a server."""
Say = Callable[[str], None]


def carry_out(state: StateDir, prepared: PreparedHosts, say: Say, how: How = "apply") -> Entry | None:
    """Make the change; return its entry in the history.

    Args:
        state: where the history and the replaced files are kept.
        prepared: what to do.
        say: told what is done, a line at a time.
        how: for the history.

    Raises:
        CorralError: a step failed, and everything was put back.
    """
    _fetch_images(prepared, say)
    _back_up(state.replaced, prepared.files)
    write(prepared.out, prepared.files, prune=True)
    done: list[Step] = []
    settle_s = prepared.farm.proxy.routing.cooldown_s + _GATES_PACE_S
    work = _Work(prepared.key, say, settle_s)
    try:
        failure = _steps(prepared, work, done)
    except KeyboardInterrupt:
        failure = Failure("the change", "was interrupted", "run it again")
    except CorralError as error:
        failure = Failure("the change", error.cause, error.mend)
    if failure is not None:
        say(f"{failure.part}: {failure.cause}; putting everything back")
        raise _put_back(prepared, work, done, failure)
    return History(state).record(prepared.text, how, prepared.file, prepared.summary)


def _steps(prepared: PreparedHosts, work: "_Work", done: list[Step]) -> Failure | None:
    for step in prepared.steps:
        done.append(step)
        if failure := work.do(step):
            return failure
    return None


def _put_back(prepared: PreparedHosts, work: "_Work", done: list[Step], failure: Failure) -> CorralError:
    """Write the files as they were, and make what was touched from them, the last first."""
    write(prepared.out, [_undone(change) for change in prepared.files], prune=True)
    with on_signals(signal.SIG_IGN, *STOPPING):  # an impatient second Ctrl-C must not leave half of it
        undone = [
            work.do(replace(step, doing="remove" if step.doing == "add" else "change")) for step in reversed(done)
        ]
    failed = [f"{again.part}: {again.cause}" for again in undone if again is not None]
    if failed:
        return CorralError(
            f"{failure.part}: {failure.cause}; putting it back failed too: {'; '.join(failed)}",
            "the files are as they were; `corral apply` with the earlier farm file (corral rollback) tries again",
        )
    return CorralError(
        f"{failure.part} did not come up as the farm file says: {failure.cause}",
        f"everything was put back as it was; {failure.mend}",
    )


def _undone(change: Change) -> Change:
    if change.state == "unchanged":
        return change
    return Change(change.path, "stale" if change.before is None else "changed", change.after, change.before)


def _back_up(folder: Path, files: Iterable[Change]) -> None:
    """Keep what is about to be replaced, and nothing of an earlier change."""
    shutil.rmtree(folder, ignore_errors=True)
    for change in files:
        if change.before is not None and change.state != "unchanged":
            kept = folder / change.path
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(change.before, encoding="utf-8")


def _fetch_images(prepared: PreparedHosts, say: Say) -> None:
    """Pull or build before a server is touched."""
    looked: set[tuple[Engine, str]] = set()
    for step in prepared.steps:
        if step.wanted is None or (step.project.engine, step.wanted.image) in looked:
            continue
        looked.add((step.project.engine, step.wanted.image))
        if step.project.has(step.wanted.image):
            continue
        engine = step.project.engine.said
        say(f"{step.service}: {'building' if step.wanted.built else 'pulling'} {step.wanted.image} on {engine}")
        if failed := step.project.fetch(step.service, step.wanted):
            raise CorralError(
                f"{step.wanted.image} cannot be had on {engine}: {failed}",
                "mend that, and try again; nothing runs anew",
            )


class _Work:
    """Does steps, and sees each to its end.

    The gate leaves a server alone for a while after it refused requests, as one does that is being replaced. So no
    server is touched before the gate has had time to come back to the one before: else it would know of none.

    Args:
        key: of the gpu-servers.
        say: told what is done.
        settle_s: how long the gate leaves a server alone.
    """

    def __init__(self, key: str, say: Say, settle_s: float) -> None:
        self._key = key
        self._say = say
        self._settle_s = settle_s
        self._not_before = 0.0

    def do(self, step: Step) -> Failure | None:
        """Do one step; return why it failed, None if it did not."""
        began = time.monotonic()
        if step.doing == "remove":
            if failed := step.project.remove(step.service):
                return Failure(step.service, failed, "look at its host")
            self._say(f"{step.service}: removed from {step.project.engine.said}")
            return None
        if step.server is not None:
            time.sleep(max(0.0, self._not_before - began))
        verb = "starting" if step.doing == "add" else "finishing its work, then starting anew"
        self._say(f"{step.service}: {verb} on {step.project.engine.said}")
        failure = self._start(step)
        if failure is None:
            self._say(f"{step.service}: ready after {time.monotonic() - began:.0f} s")
        if step.server is not None and step.doing == "change":
            self._not_before = time.monotonic() + self._settle_s
        return failure

    def _start(self, step: Step) -> Failure | None:
        failed = step.project.up(step.service, recreate=step.recreate) or _until_ready(step)
        if failed:
            words = step.project.last_words(step.service)
            return Failure(
                step.service, f"{failed}{words and f'; its last words: {words}'}", "mend that, then apply again"
            )
        if step.server is None:
            return None
        mend = f"its log may say why: docker logs, on {step.project.engine.said}"
        return prove(step.service, _url(step.server), step.server.model.mode, self._key, mend=mend)


def _until_ready(step: Step) -> str | None:
    """Wait until a service is ready; return what is wrong if it cannot become so."""
    timeout_s = MIGRATIONS_S if step.server is None else START_PERIOD_S
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        container = step.project.containers().get(step.service)
        if container is None:
            return "its container is gone"
        if container.restarts >= _RESTARTS or container.status not in ("created", "running", "restarting"):
            return f"its container does not stay up (it is {container.status})"
        if container.health == "healthy":
            return None
        if step.server is not None and step.server.model.mode != "image":
            state = _state(step.server)
            if state == "ready":
                return None
            if state == "failed":
                return "its llama-server does not stay up"
        time.sleep(_LOOK_EVERY_S)
    return f"it was not ready within {timeout_s} s"


def _state(server: Server) -> str:
    """Return what a gpu-server says of itself; empty where it does not answer."""
    try:
        answer = httpx.get(f"{_url(server)}/health", timeout=_HEALTH_TIMEOUT_S, trust_env=False)
        return str(answer.json()["state"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ""


def _url(server: Server) -> str:
    address = server.host.address
    return f"http://{f'[{address}]' if ':' in address else address}:{server.port}"
