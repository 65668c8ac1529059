"""`corral monitoring`: start, look at, stop."""

import os
import sys
from pathlib import Path

import typer
from rich.console import Console

from corral import ports
from corral import status as farm_status
from corral.apply.steps import Steps
from corral.errors import CorralError
from corral.farm.gate import Monitoring
from corral.farmstate import FarmState
from corral.keeper.changes import ChangeRequest
from corral.keys.access import base_url, resolve_access
from corral.keys.client import GateAccess
from corral.monitoring import files, gate_key, programs
from corral.monitoring.files import Layout
from corral.monitoring.parts import parts
from corral.options import DEFAULT_STATE, StateOption, environment_of_parts, state_dir
from corral.paths import StateDir
from corral.progress import for_console
from corral.running import farm_that_runs, state_that_runs
from corral.up import alone, known_secrets

NOT_RUNNING = 3
PARTS = tuple(program.part for program in programs.PROGRAMS)
PAGES = ("prometheus", "alertmanager")
"""Those that a person looks at."""
_EXPORTER_PORTS = {"node-exporter": 9100, "pg-exporter": 9187}

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
out = Console()


@app.callback(invoke_without_command=True)
def start(context: typer.Context, state: StateOption = DEFAULT_STATE) -> None:
    """Start Prometheus, Alertmanager and exporters beside the running farm; again after each `corral apply`.

    Programs that are not here are taken from Debian's packages, without installing them. Whom alerts go to comes from
    the environment: ALERT_WEBHOOK_URL, ALERT_MAIL_TO and more; docs/monitoring.md lists them.

    [bold]Examples[/bold]

      corral monitoring

      ALERT_WEBHOOK_URL=https://hooks.example/farm corral monitoring

      corral monitoring status

      corral monitoring stop
    """
    if context.invoked_subcommand is not None:
        return
    where = state_dir(state)
    progress = for_console(out)
    running = state_that_runs(where, "there is nothing to watch")
    with alone(where, progress):
        environment = environment_of_parts(os.environ)
        found = _programs(where, environment)
        farm, servers = farm_that_runs(where, running, environment)
        settings = farm.monitoring or Monitoring()
        layout = _layout(where, running, settings, found)
        for note in files.write(layout, farm, servers, os.environ):
            progress.note(note)
        secrets = known_secrets(where)
        gate_key.keep(layout.gate_key, GateAccess(base_url(running.endpoint), secrets.litellm_master_key))
        wanted = parts(
            layout, found, settings.retention_days, running.part("postgres").port, where, secrets, environment
        )
        with progress:
            failure = Steps(where, progress.show, settle_s=0).do(ChangeRequest("", parts=wanted))
        if failure is not None:
            raise CorralError(f"{failure.part}: {failure.cause}", failure.mend)
    _show(where)


@app.command()
def status(state: StateOption = DEFAULT_STATE) -> None:
    """Show the monitoring's parts. Exit code 3 if it does not run."""
    _show(state_dir(state))


@app.command()
def stop(state: StateOption = DEFAULT_STATE) -> None:
    """Stop it; series are kept. `corral down` stops it too."""
    where = state_dir(state)
    running = state_that_runs(where, "there is nothing to watch")
    there = tuple(part.name for part in running.parts if part.name in PARTS)
    if not there:
        out.print("The monitoring was not running.", highlight=False)
        return
    progress = for_console(out)
    with alone(where, progress), progress:
        Steps(where, progress.show, settle_s=0).do(ChangeRequest("", remove=there))
    out.print("The monitoring is stopped. Its series are kept.", highlight=False)


@app.command()
def key(state: StateOption = DEFAULT_STATE) -> None:
    """Print a new key that may read the gate's metrics and nothing else: GATE_METRICS_KEY of a compose farm.

    [bold]Example[/bold]

      CORRAL_ENDPOINT=http://192.168.1.10:4000 LITELLM_MASTER_KEY=... corral monitoring key
    """
    sys.stdout.write(gate_key.create(resolve_access(state)) + "\n")


def _programs(where: StateDir, environment: dict[str, str]) -> dict[str, Path]:
    folder = where.root / "programs"
    found = programs.find(folder, environment)
    if wanted := programs.missing(found):
        out.print(
            f"taking {', '.join(program.package for program in wanted)} from Debian's packages",
            highlight=False,
            soft_wrap=True,
        )
        programs.fetch(wanted, folder)
        found = programs.find(folder, environment)
    for program in programs.to_install(found):
        out.print(
            f"{program.part} is not here, so Prometheus shows alerts and sends them to nobody; as root: "
            f"apt-get install --no-install-recommends {program.package}, then make monitoring again",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    return found


def _layout(where: StateDir, running: FarmState, settings: Monitoring, found: dict[str, Path]) -> Layout:
    folder = where.root / "monitoring"
    folder.mkdir(mode=0o700, exist_ok=True)
    preferred = {
        "prometheus": settings.prometheus_port,
        "alertmanager": settings.alertmanager_port,
        **_EXPORTER_PORTS,
    }
    has = {part.name: part.port for part in running.parts if part.name in PARTS}
    wanted = [(name, preferred[name]) for name in found if name not in has]
    chosen, notes = ports.choose(wanted, {})
    for note in notes:
        out.print(note, highlight=False)
    return Layout(folder, {**has, **chosen, "litellm": running.part("litellm").port})


def _show(where: StateDir) -> None:
    farm = farm_status.current(where)
    there = [part for part in farm.services() if part.name in PARTS] if farm else []
    if farm is None or not any(part.pid for part in there):
        out.print("The monitoring is not running. Start it: make monitoring", highlight=False)
        raise typer.Exit(NOT_RUNNING)
    farm.parts = there
    farm_status.print_table(out, farm)
    for part in there:
        if part.name in PAGES:
            out.print(f"{part.name:<14}http://{part.address}", highlight=False)
