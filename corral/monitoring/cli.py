"""`corral monitoring`: start, look at, stop."""

import os
import sys

import typer
from rich.console import Console

from corral import status as farm_status
from corral.keys.access import resolve_access
from corral.monitoring import beside, gate_key
from corral.monitoring.beside import PARTS
from corral.options import DEFAULT_STATE, StateOption, environment_of_parts, state_dir
from corral.paths import StateDir
from corral.progress import for_console
from corral.running import state_that_runs
from corral.up import alone

NOT_RUNNING = 3
PAGES = ("prometheus", "alertmanager")
"""Those that a person looks at."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
out = Console()


@app.callback(invoke_without_command=True)
def start(context: typer.Context, state: StateOption = DEFAULT_STATE) -> None:
    """Start Prometheus, Alertmanager and exporters beside the running farm, and with it from now on.

    Programs that are not here are taken from Debian's packages, without installing them. Whom alerts go to comes from
    the environment: ALERT_WEBHOOK_URL, ALERT_MAIL_TO and more; docs/monitoring.md lists them. Without any of them they
    go to whom they went before; an empty one ends that.

    [bold]Examples[/bold]

      corral monitoring

      ALERT_WEBHOOK_URL=https://hooks.example/farm corral monitoring

      corral monitoring status

      corral monitoring stop
    """
    if context.invoked_subcommand is not None:
        return
    where = state_dir(state)
    state_that_runs(where, "there is nothing to watch")
    progress = for_console(out)
    with alone(where, progress):
        beside.start(where, environment_of_parts(os.environ), os.environ, progress)
    _show(where)


@app.command()
def status(state: StateOption = DEFAULT_STATE) -> None:
    """Show the monitoring's parts. Exit code 3 if it does not run."""
    _show(state_dir(state))


@app.command()
def stop(state: StateOption = DEFAULT_STATE) -> None:
    """Stop it, and watch no more; series are kept."""
    where = state_dir(state)
    state_that_runs(where, "there is nothing to watch")
    progress = for_console(out)
    with alone(where, progress):
        ran = beside.stop(where, progress)
    said = "The monitoring is stopped. Its series are kept." if ran else "The monitoring was not running."
    out.print(said, highlight=False)


@app.command()
def key(state: StateOption = DEFAULT_STATE) -> None:
    """Print a new key that may read the gate's metrics and nothing else: GATE_METRICS_KEY of a compose farm.

    [bold]Example[/bold]

      CORRAL_ENDPOINT=http://192.168.1.10:4000 LITELLM_MASTER_KEY=... corral monitoring key
    """
    sys.stdout.write(gate_key.create(resolve_access(state)) + "\n")


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
