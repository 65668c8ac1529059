"""`corral down`: stop the keeper, which stops its parts; then whatever is left, found by the farm's mark."""

import contextlib
import time

import psutil

from corral import farmstate
from corral.parts import OWNER_VARIABLE
from corral.paths import StateDir

KEEPER_STOPS_S = 30.0
LEFTOVER_STOPS_S = 3.0


def bring_down(state: StateDir) -> int:
    """Stop everything of this farm; the data stays.

    Returns:
        The number of processes that were stopped; 0 if nothing ran.
    """
    running = {process.pid for process in leftovers(state)}
    keeper = farmstate.keeper(farmstate.read(state.state_file))
    if keeper is not None:
        try:
            keeper.terminate()
            keeper.wait(KEEPER_STOPS_S)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired:
            keeper.kill()
    left = leftovers(state)
    _stop(left)
    _mark_stopped(state)
    state.plan_file.unlink(missing_ok=True)
    return len(running | {process.pid for process in left})


def leftovers(state: StateDir) -> list[psutil.Process]:
    """Return the processes of this farm that live, the keeper's among them, this process and its parents not."""
    ours = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    found = {process.pid: process for process in farmstate.owned_processes(state.root, OWNER_VARIABLE)}
    if database := _database(state):  # another user's process where we are root, so its mark may not be ours to read
        found[database.pid] = database
    return [process for pid, process in found.items() if pid not in ours]


def _database(state: StateDir) -> psutil.Process | None:
    """Return the PostgreSQL server that works on the farm's data, by its own pid file."""
    try:
        pid = int((state.postgres_data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
        process = psutil.Process(pid)
        return process if str(state.postgres_data) in process.cmdline() else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def _stop(processes: list[psutil.Process]) -> None:
    for process in processes:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(processes, timeout=LEFTOVER_STOPS_S)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=LEFTOVER_STOPS_S)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill() if kill else process.terminate()


def _mark_stopped(state: StateDir) -> None:
    """Make the state file true if the keeper could not."""
    farm = farmstate.read(state.state_file)
    if farm is None or farm.phase in ("stopped", "failed"):
        return
    farm.phase = "stopped"
    for part in farm.parts:
        if part.kind == "service":
            part.state, part.pid, part.since, part.detail = "stopped", None, time.time(), ""
    farmstate.write(state.state_file, farm)
