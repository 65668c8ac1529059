"""The states of a gpu-server as pure transitions: `step(snapshot, observation)` gives the next snapshot and what to do.

A snapshot's `phase` says how llama-server is; `draining` says whether new work is refused. What the world sees is
`snapshot.state`: `draining` while a running llama-server finishes its work, else the phase.

| phase      | seen                          | next                          | done                            |
|------------|-------------------------------|-------------------------------|---------------------------------|
| stopped    | Resume                        | starting, generation + 1      | spawn                           |
| starting   | Healthy                       | ready                         |                                 |
| ready      | Healthy                       | ready                         |                                 |
| starting,  | Exited                        | restarting, waits its backoff | counted under its cause         |
| ready      | Exited, 5th quick death       | failed, waits a minute        | counted under its cause         |
|            | Stalled                       | restarting, waits for Exited  | kill                            |
|            | Restart                       | restarting, waits for Exited  | terminate                       |
| restarting,| Tick after the wait           | starting, generation + 1      | spawn                           |
| failed     | Restart                       | starting, generation + 1      | spawn (at once)                 |
| restarting | Exited                        | restarting, waits its backoff | counted under the cause given   |
| any        | Drain / Resume                | the same, `draining` set/unset|                                 |
| any        | Stop                          | stopped, after Exited         | terminate, if one runs          |

An observation that carries an older generation than the snapshot's is about a server that is gone: nothing happens.
A quick death is one before readiness, or within `STABLE_S` after it; a requested restart never counts as one, and a
resume forgets those that were.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

StateName = Literal["starting", "ready", "draining", "restarting", "failed", "stopped"]

STABLE_S = 10.0
QUICK_DEATHS_TO_FAIL = 5
FAILED_RETRY_S = 60.0
_BACKOFF_FIRST_S, _BACKOFF_FACTOR, _BACKOFF_MOST_S = 0.2, 2.5, 15.0
_JITTER = 0.25


class Phase(StrEnum):
    """How llama-server is."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


class Action(StrEnum):
    """What the supervisor is to do after a transition."""

    SPAWN = "spawn"
    TERMINATE = "terminate"  # SIGTERM, after a deadline SIGKILL
    KILL = "kill"


class Cause(StrEnum):
    """Why llama-server was restarted; the label of the restart counter."""

    EXIT = "exit"  # it ended by itself, with a code
    SIGNAL = "signal"  # it was killed from outside, or crashed
    SPAWN = "spawn"  # it could not be started at all
    NO_PROGRESS = "no_progress"  # work waited, or a start went on, for STALL_TIMEOUT_S and nothing moved
    POLL_TIMEOUT = "poll_timeout"  # its /slots did not answer for STALL_TIMEOUT_S
    DEVICE_ERROR = "device_error"  # CUDA error or abort in its output
    GPU_LOST = "gpu_lost"  # NVML says so
    XID = "xid"  # the driver reported an error of the card
    REQUESTED = "requested"  # by POST /restart, or /resume during a drain's end


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the transitions know; times are the supervisor's clock, in seconds."""

    phase: Phase = Phase.STOPPED
    draining: bool = False
    generation: int = 0
    running: bool = False  # a process exists, dying ones included
    stopping: bool = False  # after the present process no other follows
    served: bool = False  # some generation was ready already
    ready_since: float | None = None
    next_start: float | None = None  # when to spawn again
    quick_deaths: int = 0
    killed_for: Cause | None = None  # why we are ending the present process

    @property
    def state(self) -> StateName:
        """The state as /health, /status and the metrics give it (contract 3)."""
        if self.stopping or (self.draining and self.phase is not Phase.STOPPED):
            return "draining"  # until the process is gone
        return self.phase.value

    @property
    def can_serve(self) -> bool:
        """Whether a new request may be sent to llama-server now."""
        return self.phase is Phase.READY and not self.draining

    @property
    def recovering(self) -> bool:
        """Whether a request may wait for readiness: it served before, and is being brought back."""
        return self.served and self.phase in (Phase.STARTING, Phase.RESTARTING) and not self.draining


@dataclass(frozen=True, slots=True)
class Healthy:
    """llama-server of this generation answered that it can serve."""

    generation: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The process of this generation ended (negative code: by that signal; None: it never started)."""

    generation: int
    code: int | None


@dataclass(frozen=True, slots=True)
class Stalled:
    """llama-server of this generation runs but does not work."""

    generation: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Refuse new work from now on."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Take work again; start llama-server if it is stopped."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Someone asked for a fresh llama-server."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End llama-server and start no other."""


Observation = Healthy | Exited | Stalled | Tick | Drain | Resume | Restart | Stop


@dataclass(frozen=True, slots=True)
class Outcome:
    """The next snapshot, what to do now, and the cause to count if a server was lost."""

    snapshot: Snapshot
    action: Action | None = None
    lost_to: Cause | None = None


def backoff_s(quick_deaths: int, chance: float) -> float:
    """Seconds to wait after the nth quick death in a row; `chance` in [0, 1) spreads it by a quarter either way."""
    plain = min(_BACKOFF_FIRST_S * _BACKOFF_FACTOR ** max(0, quick_deaths - 1), _BACKOFF_MOST_S)
    return plain * (1 + _JITTER * (2 * chance - 1))


def step(now: Snapshot, seen: Observation, at: float, chance: float = 0.5) -> Outcome:
    """Return what follows from seeing `seen` at time `at` (see the table in the module's docstring)."""
    match seen:
        case Healthy() | Exited() | Stalled() if seen.generation != now.generation or not now.running:
            return Outcome(now)
        case Healthy():
            return _healthy(now, at)
        case Exited():
            return _exited(now, seen, at, chance)
        case Stalled():
            return _end_for(now, seen.cause, Action.KILL)
        case Tick():
            due = now.next_start is not None and at >= now.next_start
            return _spawn(now) if due else Outcome(now)
        case Drain():
            return Outcome(replace(now, draining=True))
        case Restart():
            return _restart(now)
        case _:
            return _resume(now) if isinstance(seen, Resume) else _stop(now)


def _healthy(now: Snapshot, at: float) -> Outcome:
    if now.phase is not Phase.STARTING:
        return Outcome(now)
    return Outcome(replace(now, phase=Phase.READY, ready_since=at, served=True))


def _exited(now: Snapshot, seen: Exited, at: float, chance: float) -> Outcome:
    gone = replace(now, running=False, ready_since=None, killed_for=None)
    if now.stopping:
        return Outcome(replace(gone, phase=Phase.STOPPED, stopping=False, next_start=None, quick_deaths=0))
    cause = now.killed_for or _cause_of(seen.code)
    if cause is Cause.REQUESTED:
        return Outcome(replace(gone, phase=Phase.RESTARTING, next_start=at), lost_to=cause)
    stable = now.ready_since is not None and at - now.ready_since >= STABLE_S
    deaths = 1 if stable else now.quick_deaths + 1
    failed = deaths >= QUICK_DEATHS_TO_FAIL
    wait_s = FAILED_RETRY_S if failed else backoff_s(deaths, chance)
    phase = Phase.FAILED if failed else Phase.RESTARTING
    return Outcome(replace(gone, phase=phase, quick_deaths=deaths, next_start=at + wait_s), lost_to=cause)


def _cause_of(code: int | None) -> Cause:
    if code is None:
        return Cause.SPAWN
    return Cause.SIGNAL if code < 0 else Cause.EXIT


def _end_for(now: Snapshot, cause: Cause, action: Action) -> Outcome:
    if now.killed_for is not None or now.stopping:
        return Outcome(now)  # it is being ended already
    return Outcome(replace(now, phase=Phase.RESTARTING, killed_for=cause), action)


def _spawn(now: Snapshot) -> Outcome:
    fresh = replace(now, phase=Phase.STARTING, generation=now.generation + 1, running=True, next_start=None)
    return Outcome(fresh, Action.SPAWN)


def _restart(now: Snapshot) -> Outcome:
    if now.running:
        return _end_for(now, Cause.REQUESTED, Action.TERMINATE)
    return Outcome(now) if now.phase is Phase.STOPPED else _spawn(replace(now, quick_deaths=0))


def _resume(now: Snapshot) -> Outcome:
    back = replace(now, draining=False, quick_deaths=0)  # someone looked after it: a fresh start
    if now.stopping:  # its end is under way; the next one follows as after a requested restart
        return Outcome(replace(back, stopping=False, phase=Phase.RESTARTING, killed_for=Cause.REQUESTED))
    return _spawn(back) if now.phase is Phase.STOPPED else Outcome(back)


def _stop(now: Snapshot) -> Outcome:
    if not now.running:
        return Outcome(replace(now, phase=Phase.STOPPED, next_start=None))
    if now.stopping:
        return Outcome(now)
    return Outcome(replace(now, stopping=True, ready_since=None, phase=Phase.STOPPED), Action.TERMINATE)
