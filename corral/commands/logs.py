"""`corral logs`."""

from typing import Annotated

import typer
from rich.console import Console

from corral import logs as farm_logs
from corral.errors import CorralError
from corral.options import DEFAULT_STATE, StateOption, state_dir

out = Console()


def logs(
    part: Annotated[str | None, typer.Argument(help="A part's name; all parts if left out.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines, of each part.")] = 40,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is added, until Ctrl-C.")] = False,
    request: Annotated[
        str | None, typer.Option(metavar="ID", help="One request's lines of all logs; see x-litellm-call-id.")
    ] = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Print the ends of the parts' logs.

    [bold]Examples[/bold]

      corral logs

      corral logs chat-1 -n 200

      corral logs litellm --follow

      corral logs --request 5606de1b-78e1-4fbe-bd7c-004b31173f78     from the gate to llama-server
    """
    if request is not None:
        if part or follow:
            raise CorralError("--request looks through all logs, once", "leave the part and --follow out", exit_code=2)
        farm_logs.show_request(state_dir(state), out, request)
        return
    try:
        farm_logs.show(state_dir(state), out, part, lines, follow=follow)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
