"""`corral down` and `corral reset`."""

import shutil
import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from corral.down import bring_down
from corral.errors import CorralError
from corral.options import DEFAULT_STATE, StateOption, state_dir

out = Console()


def down(state: StateOption = DEFAULT_STATE) -> None:
    """Stop the whole farm; data and keys stay.

    [bold]Example[/bold]

      corral down
    """
    began = time.monotonic()
    stopped = bring_down(state_dir(state))
    if stopped:
        out.print(
            f"Stopped; {stopped} processes ended in {time.monotonic() - began:.1f} s. Data and keys are kept.",
            highlight=False,
        )
    else:
        out.print("The farm was not running.", highlight=False)


def reset(
    state: StateOption = DEFAULT_STATE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the farm and delete its data: keys, spend, database, logs, secrets. Asks first.

    [bold]Examples[/bold]

      corral reset

      corral reset --yes
    """
    where = state_dir(state)
    if not where.root.exists():
        out.print(f"There is nothing to delete: {where.root} does not exist.", highlight=False)
        return
    if not (where.root / "run").is_dir():
        raise CorralError(f"{where.root} is not a farm's state folder", "name the right one with --state", exit_code=2)
    if not yes:
        if not sys.stdin.isatty():
            raise CorralError(
                "reset deletes all keys and data and cannot ask here", "say --yes if you mean it", exit_code=2
            )
        typer.confirm(f"Delete all keys, spend and data in {where.root}?", abort=True)
    bring_down(where)
    shutil.rmtree(where.root)
    out.print(f"Deleted {where.root}.", highlight=False)
