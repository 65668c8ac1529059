"""`corral up`: plan the farm, hand it to a keeper, show how it comes up."""

import asyncio
import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from corral import farmstate, litellm_config, local_farm, machine, ports, secrets
from corral.apply.history import History
from corral.down import bring_down, leftovers
from corral.errors import CorralError
from corral.farm import load_farm
from corral.farmstate import FarmState
from corral.keys.access import base_url
from corral.keys.client import GateAccess, KeyClient, NewKey
from corral.local_farm import LocalFarm
from corral.parts import OWNER_VARIABLE, parts
from corral.paths import StateDir, write_private
from corral.plan.check import check_fits
from corral.progress import Progress
from corral.secrets import Secrets
from corral.signals import STOPPING, interrupt, on_signals

KEEPER_STARTS_S = 15.0
FOLLOW_S = 0.1


@dataclass(frozen=True)
class Started:
    """A farm that is up.

    Args:
        farm: its state, phase `running`.
        secrets: of this farm.
        key: a fresh API key, if this call started it; None if it ran already.
        seconds: how long the start took.
    """

    farm: FarmState
    secrets: Secrets
    key: str | None
    seconds: float


def bring_up(state: StateDir, farm_file: Path, environment: Mapping[str, str], progress: Progress) -> Started:
    """Start the farm unless it runs, and wait until every part is ready.

    Args:
        state: where its data lies.
        farm_file: what it is to be.
        environment: of this process.
        progress: told of each change.

    Raises:
        CorralError: it cannot run here, or a part did not come up; nothing is left running then.
        KeyboardInterrupt: Ctrl-C (also SIGTERM, SIGHUP); nothing that this call started is left running then.
    """
    began = time.monotonic()
    state.create()
    with on_signals(interrupt, signal.SIGTERM, signal.SIGHUP), alone(state, progress):
        running = farmstate.read(state.state_file)
        if farmstate.keeper(running):
            farm = _follow(state, progress)
            return Started(farm, known_secrets(state), key=None, seconds=time.monotonic() - began)
        if leftovers(state):
            progress.note("parts of an earlier start that did not end well are still there: stopping them")
            bring_down(state)
        try:
            text = _start_keeper(state, farm_file, environment, progress)
            farm = _follow(state, progress)
            key = asyncio.run(_fresh_key(farm, known_secrets(state)))
        except BaseException:
            # An impatient second Ctrl-C must not leave half of it running.
            with on_signals(signal.SIG_IGN, *STOPPING):
                bring_down(state)
            raise
        History(state).record(text, "up", farm_file, f"started {', '.join(part.name for part in farm.services())}")
        return Started(farm, known_secrets(state), key=key, seconds=time.monotonic() - began)


async def _fresh_key(farm: FarmState, known: Secrets) -> str:
    """Return a new key for all models of the farm, named after the moment."""
    async with KeyClient(GateAccess(base_url(farm.endpoint), known.litellm_master_key)) as client:
        created = await client.create(NewKey(alias=time.strftime("up-%Y%m%d-%H%M%S"), models=tuple(farm.models)))
    return created.key


def known_secrets(state: StateDir) -> Secrets:
    """Return the farm's secrets; makes them where there is no database yet that would need the old ones."""
    return secrets.load_or_create(state.secrets_file, database_exists=(state.postgres_data / "PG_VERSION").exists())


def _start_keeper(state: StateDir, farm_file: Path, environment: Mapping[str, str], progress: Progress) -> str:
    """Start it; return the farm file's text."""
    loaded = load_farm(farm_file)
    seen = machine.look(state.root, environment)
    for note in seen.notes:
        progress.note(note)
    farm = local_farm.choose(loaded.value, farm_file.parent, state.models, seen)
    if any(server.on_gpu for server in farm.servers):
        check_fits(loaded.value, farm_file.parent, state.models, state.headers, seen, environment)
    known = known_secrets(state)
    chosen = _choose_ports(farm, state, environment, progress)
    for earlier in state.litellm_config("*").parent.glob("config*.yaml"):
        earlier.unlink()
    config = litellm_config.render(farm, chosen)
    plan = {
        "endpoint": f"http://{ports.HOST}:{chosen['litellm']}/v1",
        "models": farm.model_names,
        "modes": farm.modes,
        "parts": [part.to_json() for part in parts(farm, chosen, known, state, farm_file, environment, config)],
    }
    write_private(state.plan_file, json.dumps(plan))
    state.change_file.unlink(missing_ok=True)
    state.state_file.unlink(missing_ok=True)
    with (state.logs / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "corral.keeper", str(state.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**environment, OWNER_VARIABLE: str(state.root)},
        )
    deadline = time.monotonic() + KEEPER_STARTS_S
    while not state.state_file.exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise CorralError("the keeper did not start", f"see {state.logs / 'keeper.log'}")
        time.sleep(0.02)
    return loaded.source_text


def _choose_ports(
    farm: LocalFarm, state: StateDir, environment: Mapping[str, str], progress: Progress
) -> dict[str, int]:
    wanted_gate = environment.get("CORRAL_PORT")
    gate = farm.file.proxy.port
    if wanted_gate:
        if not ports.is_number(wanted_gate):
            raise CorralError(f"CORRAL_PORT={wanted_gate} is not a port", "give a number from 1 to 65535", exit_code=2)
        gate = int(wanted_gate)
        if not ports.may_listen(gate):
            raise CorralError(f"you may not listen on port {gate}", "choose one from 1024 up: CORRAL_PORT=8000")
        if not ports.is_free(gate):
            raise CorralError(
                f"port {gate}, asked for by CORRAL_PORT, is taken by {ports.holder(gate)}",
                "stop that, or leave CORRAL_PORT out to get the next free one",
            )
    wanted = [
        ("litellm", gate),
        ("postgres", farm.file.proxy.database_port),
        *((server.name, server.preferred_port) for server in farm.servers),
    ]
    known = ports.remembered(state.ports_file)
    known.pop("litellm", None)  # clients know 4000: it is taken whenever it is free
    chosen, notes = ports.choose(wanted, known)
    for note in notes:
        progress.note(note.replace("litellm listens", "the gate listens"))
    write_private(state.ports_file, json.dumps(chosen))
    return chosen


def _follow(state: StateDir, progress: Progress) -> FarmState:
    """Show the start until it has ended; return the running farm."""
    with progress:
        while True:
            farm = farmstate.read(state.state_file)
            if farm is None:
                raise CorralError(f"{state.state_file} is gone or broken", "run `make down`, then `make up`")
            progress.show(farm)
            if farm.phase == "running":
                return farm
            if farm.failure and farm.phase == "failed":
                raise CorralError(f"{farm.failure.part}: {farm.failure.cause}", farm.failure.mend)
            if farm.phase == "stopped" or not farmstate.keeper(farm):
                raise CorralError("the start was stopped", "run `make up` again")
            time.sleep(FOLLOW_S)


@contextmanager
def alone(state: StateDir, progress: Progress) -> Iterator[None]:
    """Hold the lock of `up`: a second one waits for the first, then finds the farm running."""
    with (state.root / "run" / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note("another `corral up` is starting the farm: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
