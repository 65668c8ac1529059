"""`corral status`."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from corral import status as farm_status
from corral.options import DEFAULT_STATE, FileOption, StateOption, state_dir

out = Console()


def status(
    state: StateOption = DEFAULT_STATE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    file: FileOption = None,
) -> None:
    """Show each part: state, address, pid, memory, since when. Exit code 3 if the farm is not running.

    [bold]Examples[/bold]

      corral status

      corral status --json | jq -r .endpoint

      corral status --json | jq '.servers[] | select(.state != "ready") | .name'
    """
    farm = farm_status.current(state_dir(state))
    if as_json:
        from corral.top.cli import rows_now  # brings the farm file's model: slow

        servers = rows_now(state_dir(state), file) if farm is not None and farm.phase == "running" else ()
        sys.stdout.write(json.dumps(farm_status.as_json(farm, servers), indent=1) + "\n")
    else:
        farm_status.print_table(out, farm)
    if farm is None or farm.phase not in ("running", "starting"):
        raise typer.Exit(farm_status.NOT_RUNNING)
