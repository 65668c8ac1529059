"""`python -m corral.keeper STATE_DIR`: reads the plan, takes the lock, runs the farm. Started by `corral up`."""

import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
from pathlib import Path

import psutil

from corral import farmstate
from corral.farmstate import FarmState
from corral.keeper.changes import ChangeRequest
from corral.keeper.keeper import Keeper
from corral.keeper.record import part_state
from corral.parts import Part
from corral.paths import StateDir

ALREADY_RUNNING = 3

_log = logging.getLogger(__name__)


def main() -> int:
    """Return 0 after a farm that ran, 1 after a start that failed, 3 if a keeper runs already."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    state = StateDir(Path(sys.argv[1]))
    lock = state.lock_file.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ALREADY_RUNNING
    plan = json.loads(state.plan_file.read_text(encoding="utf-8"))
    state.plan_file.unlink()  # it holds secrets, and is made anew by every start
    parts = [Part.from_json(part) for part in plan["parts"]]
    farm = FarmState(
        endpoint=plan["endpoint"],
        models=plan["models"],
        modes=plan["modes"],
        keeper_pid=os.getpid(),
        keeper_created=psutil.Process().create_time(),
        parts=[part_state(part) for part in parts],
    )
    farmstate.write(state.state_file, farm)
    return 0 if asyncio.run(_keep(state, parts, farm)) else 1


async def _keep(state: StateDir, parts: list[Part], farm: FarmState) -> bool:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    keeper = Keeper(state, parts, farm)

    def take_change() -> None:
        try:
            keeper.change(ChangeRequest.take(state))
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("a change cannot be read: %s", error)

    loop.add_signal_handler(signal.SIGUSR1, take_change)
    return await keeper.run(stop)


if __name__ == "__main__":
    sys.exit(main())
