"""The monitoring beside the farm that runs: started once, and from then on kept as the farm is by `up` and `apply`.

What is started here is remembered in the state folder until `corral monitoring stop`.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from corral import farmstate, ports
from corral.apply.steps import Steps
from corral.errors import CorralError
from corral.farm.gate import Monitoring
from corral.farmstate import FarmState
from corral.keeper.changes import ChangeRequest
from corral.keys.access import base_url
from corral.keys.client import GateAccess
from corral.monitoring import files, gate_key, programs
from corral.monitoring.files import Layout
from corral.monitoring.parts import parts
from corral.monitoring.programs import Program
from corral.parts import Part
from corral.paths import StateDir
from corral.progress import Progress
from corral.running import farm_that_runs, state_that_runs
from corral.up import known_secrets

PARTS = tuple(program.part for program in (*programs.PROGRAMS, programs.PROBER))
_EXPORTER_PORTS = {"node-exporter": 9100, "pg-exporter": 9187, "blackbox-exporter": 9115}
_REREADS = ("prometheus", "alertmanager")
"""What reads its configuration anew on SIGHUP."""


def is_on(where: StateDir) -> bool:
    """Return whether the farm is watched whenever it runs."""
    return _mark(where).exists()


def start(where: StateDir, environment: Mapping[str, str], receivers: Mapping[str, str], progress: Progress) -> None:
    """Start it anew, and watch the farm from now on; the caller holds the farm's lock.

    Args:
        where: the farm's state.
        environment: of the parts.
        receivers: ALERT_* variables; without any, those of the last start stay.
        progress: told of each change.

    Raises:
        CorralError: the farm does not run, a program cannot be had, a receiver is wrong, or a part does not come up.
    """
    running, wanted = _prepared(where, environment, receivers, progress)
    _change(where, wanted, _gone(running, wanted), progress)
    _mark(where).touch(mode=0o600)


def keep(where: StateDir, environment: Mapping[str, str], progress: Progress) -> None:
    """Bring it to what the farm is now, if it is on: what fits is told to read its files anew, the rest started.

    A farm that cannot be watched serves all the same, so what fails is said and not raised. Receivers of alerts stay.
    """
    if not is_on(where):
        return
    try:
        running, wanted = _prepared(where, environment, None, progress)
        fitting = {part.name: pid for part in wanted if (pid := _pid_of(part, running)) is not None}
        _change(where, [part for part in wanted if part.name not in fitting], _gone(running, wanted), progress)
        for name in _REREADS:
            if name in fitting:
                os.kill(fitting[name], signal.SIGHUP)
    except (CorralError, OSError) as error:
        progress.note(f"the farm runs, and is not watched as it should be: {error}; then make monitoring")


def stop(where: StateDir, progress: Progress) -> bool:
    """Stop it and watch no more; return whether it ran. The caller holds the farm's lock.

    Raises:
        CorralError: the farm does not run.
    """
    running = state_that_runs(where, "there is nothing to watch")
    _mark(where).unlink(missing_ok=True)
    there = tuple(part.name for part in running.parts if part.name in PARTS)
    _change(where, (), there, progress)
    return bool(there)


def _mark(where: StateDir) -> Path:
    return where.root / "monitoring" / "on"


def _prepared(
    where: StateDir, environment: Mapping[str, str], receivers: Mapping[str, str] | None, progress: Progress
) -> tuple[FarmState, tuple[Part, ...]]:
    """Write what the parts read; return the farm's state and the parts."""
    running = state_that_runs(where, "there is nothing to watch")
    farm, servers = farm_that_runs(where, running, environment)
    settings = farm.monitoring or Monitoring()
    wanted = (*programs.PROGRAMS, programs.PROBER) if settings.probes else programs.PROGRAMS
    found = _found(wanted, where, environment, progress)
    layout = _layout(where, running, settings, found, progress)
    for note in files.write(layout, farm, servers, receivers):
        progress.note(note)
    secrets = known_secrets(where)
    pages = gate_key.PAGES if farm.proxy.routing.strategy == "least-busy" else (gate_key.OWN,)
    gate_key.keep(layout.gate_key, GateAccess(base_url(running.endpoint), secrets.litellm_master_key), pages)
    database = running.part("postgres").port
    return running, parts(layout, found, settings.retention_days, database, where, secrets, environment)


def _found(
    wanted: Sequence[Program], where: StateDir, environment: Mapping[str, str], progress: Progress
) -> dict[str, Path]:
    folder = where.root / "programs"
    found = programs.find(wanted, folder, environment)
    if missing := programs.missing(wanted, found):
        progress.note(f"taking {', '.join(program.package for program in missing)} from Debian's packages")
        programs.fetch(missing, folder)
        found = programs.find(wanted, folder, environment)
    for program in programs.to_install(wanted, found):
        progress.note(
            f"{program.part} is not here, so Prometheus shows alerts and sends them to nobody; as root: "
            f"apt-get install --no-install-recommends {program.package}, then make monitoring again"
        )
    return found


def _layout(
    where: StateDir, running: FarmState, settings: Monitoring, found: Mapping[str, Path], progress: Progress
) -> Layout:
    folder = where.root / "monitoring"
    folder.mkdir(mode=0o700, exist_ok=True)
    preferred = {
        "prometheus": settings.prometheus_port,
        "alertmanager": settings.alertmanager_port,
        **_EXPORTER_PORTS,
    }
    has = {part.name: part.port for part in running.parts if part.name in found}
    chosen, notes = ports.choose([(name, preferred[name]) for name in found if name not in has], {})
    for note in notes:
        progress.note(note)
    return Layout(folder, {**has, **chosen, "litellm": running.part("litellm").port})


def _gone(running: FarmState, wanted: Sequence[Part]) -> tuple[str, ...]:
    names = {part.name for part in wanted}
    return tuple(part.name for part in running.parts if part.name in PARTS and part.name not in names)


def _pid_of(part: Part, running: FarmState) -> int | None:
    """Return the process that runs just as the part is to run; None if there is none."""
    for state in running.parts:
        process = farmstate.process(state.pid, state.pid_created) if state.name == part.name else None
        if process is not None:
            try:
                return process.pid if tuple(process.cmdline()) == part.argv else None
            except psutil.Error:
                return None
    return None


def _change(where: StateDir, wanted: Sequence[Part], gone: tuple[str, ...], progress: Progress) -> None:
    if not (wanted or gone):
        return
    with progress:
        failure = Steps(where, progress.show, settle_s=0).do(ChangeRequest("", parts=tuple(wanted), remove=gone))
    if failure is not None:
        raise CorralError(f"{failure.part}: {failure.cause}", failure.mend)
