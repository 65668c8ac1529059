"""The farm that runs on this machine: its state, and its servers with the ports that they have."""

from collections.abc import Mapping
from pathlib import Path

from corral import farmstate, local_farm, machine
from corral.apply.history import History
from corral.errors import CorralError
from corral.farm import FarmFile, Server, load_farm
from corral.farmstate import FarmState
from corral.litellm_config import local_servers
from corral.paths import StateDir


def state_that_runs(where: StateDir, consequence: str) -> FarmState:
    """Return the state of the farm that runs.

    Args:
        where: its state folder.
        consequence: what cannot be done without it, for the error's text.

    Raises:
        CorralError: none runs.
    """
    farm = farmstate.read(where.state_file)
    if farm is None or farmstate.keeper(farm) is None or farm.phase != "running":
        raise CorralError(f"the farm is not running, and {consequence}", "start it: make up")
    return farm


def farm_that_runs(
    where: StateDir, running: FarmState, environment: Mapping[str, str]
) -> tuple[FarmFile, list[Server]]:
    """Return the farm file that runs, and its servers with the ports they have.

    Raises:
        CorralError: the history does not say which file that is.
    """
    entries = History(where).entries()
    if not entries:
        raise CorralError("the farm file that runs is not known", "restart the farm: make down, then make up")
    file = load_farm(History(where).path(entries[-1].number)).value
    seen = machine.look(where.root, environment)
    farm = local_farm.choose(file, Path(entries[-1].file).parent, where.models, seen, check_room=False)
    known = {part.name: part.port for part in running.parts}
    return file, local_servers(farm, known)
