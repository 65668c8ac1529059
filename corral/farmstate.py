"""What is known of a farm: written by the keeper to `run/state.json` on every change, read by everything else."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from corral.paths import write_private

PartPhase = Literal[
    "waiting", "starting", "ready", "done", "not ready", "not answering", "restarting", "failed", "stopping", "stopped"
]
FarmPhase = Literal["starting", "running", "stopping", "stopped", "failed"]


@dataclass
class PartState:
    """One part as the keeper sees it. Times are seconds since the epoch."""

    name: str
    kind: Literal["job", "service"]
    state: PartPhase = "waiting"
    detail: str = ""
    """What it waits for or what went wrong, one line."""
    address: str = ""
    port: int = 0
    pid: int | None = None
    pid_created: float = 0.0
    """Start time of the process by the kernel's account: tells it from a later one with the same pid."""
    since: float = 0.0
    """When it took its present state."""
    restarts: int = 0
    revision: str = ""
    """`Part.revision` of what runs."""


@dataclass
class Failure:
    """Why a start was given up."""

    part: str
    cause: str
    mend: str


@dataclass
class Change:
    """A change of the running farm."""

    id: str
    done: bool = False
    failure: Failure | None = None


@dataclass
class FarmState:
    """The whole farm."""

    endpoint: str
    phase: FarmPhase = "starting"
    keeper_pid: int = 0
    keeper_created: float = 0.0
    models: list[str] = field(default_factory=list)
    modes: dict[str, str] = field(default_factory=dict)
    """What each model serves: chat, embedding, ..."""
    change: "Change | None" = None
    """The last change that `corral apply` asked for."""
    parts: list[PartState] = field(default_factory=list)
    failure: Failure | None = None

    def part(self, name: str) -> PartState:
        """Return a part by its name; KeyError if there is none."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)

    def services(self) -> list[PartState]:
        """Return the parts that go on running."""
        return [part for part in self.parts if part.kind == "service"]


def write(path: Path, state: FarmState) -> None:
    """Replace the state file, atomically."""
    write_private(path, json.dumps(asdict(state), indent=1))


def read(path: Path) -> FarmState | None:
    """Return the state last written; None where there is none or it cannot be understood."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        failure, change = _failure(raw.pop("failure")), raw.pop("change")
        parts = [PartState(**part) for part in raw.pop("parts")]
        if change:
            change = Change(**{**change, "failure": _failure(change["failure"])})
        return FarmState(**raw, parts=parts, failure=failure, change=change)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _failure(raw: dict[str, str] | None) -> Failure | None:
    return Failure(**raw) if raw else None


def process(pid: int | None, created: float) -> psutil.Process | None:
    """Return the process if it is still that one and not a zombie, else None."""
    if not pid:
        return None
    try:
        found = psutil.Process(pid)
        if abs(found.create_time() - created) > 1 or found.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return found


def keeper(state: FarmState | None) -> psutil.Process | None:
    """Return the keeper's process if it lives."""
    return process(state.keeper_pid, state.keeper_created) if state else None


def owned_processes(state_root: Path, variable: str) -> list[psutil.Process]:
    """Return every process of this farm by the mark in its environment, whoever its parent is.

    Args:
        state_root: the farm's state folder.
        variable: name of the environment variable that holds it.
    """
    found = []
    for candidate in psutil.process_iter():
        try:
            environment: Mapping[str, str] = candidate.environ()
            if environment.get(variable) == str(state_root) and candidate.status() != psutil.STATUS_ZOMBIE:
                found.append(candidate)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
