"""`corral logs`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from corral import logs as farm_logs
from corral.errors import CorralError
from corral.options import DEFAULT_STATE, StateOption, farm_file, state_dir
from corral.paths import StateDir
from corral.request_trail import FileLogs, HeldLogs, Logs

out = Console()


def logs(
    part: Annotated[str | None, typer.Argument(help="A part's name; all parts if left out.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines, of each part.")] = 40,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is added, until Ctrl-C.")] = False,
    request: Annotated[
        str | None, typer.Option(metavar="ID", help="One request's lines of all logs; see x-litellm-call-id.")
    ] = None,
    state: StateOption = DEFAULT_STATE,
    file: Annotated[
        Path | None,
        typer.Option(envvar="CORRAL_FILE", help="With --request: the farm file, where its hosts run containers."),
    ] = None,
) -> None:
    """Print the ends of the parts' logs.

    [bold]Examples[/bold]

      corral logs

      corral logs chat-1 -n 200

      corral logs litellm --follow

      corral logs --request 5606de1b-78e1-4fbe-bd7c-004b31173f78     from the gate to llama-server

      corral logs --request 5606de1b-... --file corral.yaml          the same, from the containers of its hosts
    """
    if request is not None:
        if part or follow:
            raise CorralError("--request looks through all logs, once", "leave the part and --follow out", exit_code=2)
        farm_logs.show_request(_all_logs(state_dir(state), file), out, request)
        return
    try:
        farm_logs.show(state_dir(state), out, part, lines, follow=follow)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _all_logs(state: StateDir, named: Path | None) -> Logs:
    """Return this machine's logs; those of containers where the farm file is of such."""
    if named is not None or not farm_logs.names(state):
        from corral import container_logs  # brings the model of a farm file, which other logs need not wait for

        if (held := container_logs.of_file(farm_file(named))) is not None:
            return HeldLogs(held)
    return FileLogs(state)
