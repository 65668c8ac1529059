"""Where the servers and the gate of a farm are, and the keys with which they answer."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from corral import farmstate
from corral.doctor.from_farm import wanted_of
from corral.envfile import parse_env
from corral.errors import CorralError
from corral.farm import load_farm
from corral.options import farm_file
from corral.paths import StateDir

SERVER_KEY, MASTER_KEY = "GPU_SERVER_KEY", "LITELLM_MASTER_KEY"


@dataclass(frozen=True, slots=True)
class Places:
    """What is asked.

    Attributes:
        farm: its name.
        servers: URL by server, in the order of the farm file.
        server_key: of the gpu-servers; None: their /status is not asked.
        gate: its URL, where it can be reached from here.
        gate_key: a key that may read the gate's metrics.
    """

    farm: str
    servers: Mapping[str, str]
    server_key: str | None = field(repr=False)
    gate: str | None
    gate_key: str | None = field(repr=False)


def find(state: StateDir, named: Path | None, environment: Mapping[str, str] | None = None) -> Places:
    """Return the places of the farm that runs from `state`, else of the farm file on its hosts.

    Raises:
        YamlFileErrors: the farm file is wrong.
        CorralError: there is nothing that could be asked.
    """
    variables = os.environ if environment is None else environment
    path = farm_file(named)
    farm = load_farm(path).value
    wanted = wanted_of(farm, path.parent, state)
    if not wanted.servers:
        raise CorralError(f"{path} has no gpu-server", "place a model under servers:", exit_code=2)
    if any(host.runtime == "processes" for host in farm.hosts.values()):
        _must_run(state)
        secrets = _secrets(state.secrets_file)  # and no others: a key goes to its own farm only
    else:
        beside = (path.parent / ".env", path.parent / "litellm" / ".env")
        secrets = {**_secrets(*beside), **variables}
    return Places(
        farm=farm.name,
        servers=dict(wanted.servers),
        server_key=secrets.get(SERVER_KEY) or None,
        gate=wanted.gate_url,
        gate_key=secrets.get("GATE_METRICS_KEY") or secrets.get(MASTER_KEY) or None,
    )


def _must_run(state: StateDir) -> None:
    running = farmstate.read(state.state_file)
    if running is None or farmstate.keeper(running) is None:
        raise CorralError("the farm is not running, and there is nothing to show", "start it: make up")


def _secrets(*files: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        try:
            found |= parse_env(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue  # a person who may not read them still sees what needs no key
    return found
