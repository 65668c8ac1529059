"""What a load test asks: the farm of this machine, or the one that a rendered targets.json describes."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from corral import farmstate
from corral.down import bring_down
from corral.errors import CorralError
from corral.farmstate import FarmState
from corral.keys.access import ENDPOINT_VARIABLE, MASTER_KEY_VARIABLE, base_url, resolve_access
from corral.keys.client import GateAccess
from corral.options import environment_of_parts
from corral.paths import StateDir
from corral.progress import Progress
from corral.render.k6 import Targets, targets
from corral.running import farm_that_runs, state_that_runs
from corral.up import bring_up, known_secrets

SERVER_KEY_VARIABLE = "GPU_SERVER_KEY"


@dataclass(frozen=True)
class Aim:
    """A farm to load.

    Args:
        targets: its gate, models and servers.
        access: how its keys are managed; None where that is not known.
        server_key: of the gpu-servers; None where it is not known.
        state: where it keeps its state, if it runs on this machine.
    """

    targets: Targets
    access: GateAccess | None = None
    server_key: str | None = None
    state: StateDir | None = None

    def manager(self) -> GateAccess:
        """Return how its keys are managed.

        Raises:
            CorralError: that is not known.
        """
        if self.access is None:
            raise CorralError(
                f"no key can be made for the run: {MASTER_KEY_VARIABLE} is not set",
                "set it to the gate's master key; for all scripts but `keys`, API_KEY with a key of yours will do",
                exit_code=2,
            )
        return self.access

    def parts(self) -> FarmState | None:
        """Return the processes of the farm as they are now; None where it runs elsewhere."""
        return farmstate.read(self.state.state_file) if self.state else None


@contextmanager
def farm_here(where: StateDir, file: Path, progress: Progress) -> Iterator[Aim]:
    """Give the farm of this machine; where none runs, one that is started for it and stopped afterwards."""
    known = farmstate.read(where.state_file)
    runs = farmstate.keeper(known) is not None
    environment = environment_of_parts(os.environ)
    if not runs:
        progress.note("no farm runs here: one is started for this, and stopped afterwards")
        bring_up(where, file, environment, progress)
    try:
        state = state_that_runs(where, "there is nothing to load")
        farm, servers = farm_that_runs(where, state, environment)
        gate = base_url(state.endpoint)
        secrets = known_secrets(where)
        access = GateAccess(gate, secrets.litellm_master_key)
        yield Aim(targets(farm, servers, gate), access, secrets.gpu_server_key, where)
    finally:
        if not runs:
            bring_down(where)


def farm_of(path: Path, environment: Mapping[str, str]) -> Aim:
    """Return the farm of a rendered targets.json; its master key comes by LITELLM_MASTER_KEY, if it is needed.

    Raises:
        CorralError: the file is missing, or is no such file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        complete = {"farm", "gate", "models", "servers"} <= set(found)
    except OSError as error:
        raise CorralError(f"{path} cannot be read ({error.strerror})", "write it: corral render", exit_code=2) from None
    except (ValueError, TypeError):
        complete = False
    if not complete:
        raise CorralError(f"{path} holds no targets", "give the targets.json that corral render writes", exit_code=2)
    gate = {ENDPOINT_VARIABLE: found["gate"], **environment}
    return Aim(
        cast("Targets", {**found, "gate": base_url(gate[ENDPOINT_VARIABLE])}),
        resolve_access(Path(), gate) if environment.get(MASTER_KEY_VARIABLE) else None,
        environment.get(SERVER_KEY_VARIABLE) or None,
    )
