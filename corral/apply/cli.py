"""`corral apply`, `corral rollback`, `corral history`."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corral import farmstate
from corral.apply.change import Prepared, carry_out, prepare
from corral.apply.history import History, How
from corral.apply.steps import Steps
from corral.errors import CorralError
from corral.farmstate import FarmState
from corral.options import DEFAULT_STATE, FileOption, StateOption, environment_of_parts, farm_file, state_dir
from corral.paths import StateDir
from corral.progress import for_console
from corral.up import alone, known_secrets

out = Console()

_GATES_PACE_S = 1.0
"""How much later than it should the gate may come back to a server."""
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def apply(
    state: StateOption = DEFAULT_STATE,
    file: FileOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    yes: YesOption = False,
) -> None:
    """Change the running farm to what the farm file says, one server at a time; put it all back if one fails.

    A server finishes its work before it is replaced, and must be ready and answer a real request before the next
    one's turn. Asks only where a model would not answer for a while: its single server restarts, or the gate does.

    [bold]Examples[/bold]

      corral apply --dry-run

      corral apply

      corral apply --file farms/laptop.yaml --yes
    """
    _change(state_dir(state), farm_file(file), dry_run=dry_run, yes=yes, how="apply")


def rollback(
    number: Annotated[int | None, typer.Argument(help="An entry of the history; the one before the last.")] = None,
    state: StateOption = DEFAULT_STATE,
    yes: YesOption = False,
) -> None:
    """Change the running farm back to an earlier farm file; the present file is left as it is.

    [bold]Examples[/bold]

      corral rollback

      corral rollback 3 --yes
    """
    where = state_dir(state)
    history = History(where)
    entries = history.entries()
    if number is None:
        if len(entries) < 2:
            raise CorralError("there is nothing to go back to", "`corral history` lists what ran", exit_code=2)
        number = entries[-2].number
    history.text(number)  # says which there are
    _change(where, history.path(number), dry_run=False, yes=yes, how="rollback")
    out.print(
        f"The farm runs as in entry {number}; its file is {history.path(number)}. Copy it over yours, "
        "or the next `corral apply` brings that back.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def history(state: StateOption = DEFAULT_STATE) -> None:
    """List the farm files that ran, oldest first.

    [bold]Example[/bold]

      corral history
    """
    entries = History(state_dir(state)).entries()
    if not entries:
        out.print("No farm ran here yet.", highlight=False)
        return
    table = Table("NUMBER", "WHEN", "BY", "WHAT", "FILE", box=None, pad_edge=False)
    for entry in entries:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
        table.add_row(str(entry.number), when, entry.how, escape(entry.summary), escape(entry.file))
    console = Console() if out.is_terminal else Console(width=200)
    console.print(table)


def _change(state: StateDir, file: Path, *, dry_run: bool, yes: bool, how: How) -> None:
    progress = for_console(out)
    with alone(state, progress):
        running = _running(state)
        secrets = known_secrets(state)
        prepared = prepare(state, running, file, secrets, environment_of_parts(os.environ))
        if prepared.difference.is_empty:
            out.print("The farm runs as the farm file says; nothing to change.", highlight=False)
            return
        for note in prepared.notes:
            progress.note(note)
        _show(prepared)
        if dry_run:
            return
        _ask(prepared, yes=yes)
        began = time.monotonic()
        with progress:
            settle_s = prepared.farm.file.proxy.routing.cooldown_s + _GATES_PACE_S
            carry_out(state, running, prepared, secrets, Steps(state, progress.show, settle_s), how)
        out.print(f"Changed in {time.monotonic() - began:.1f} s.", highlight=False)


def _running(state: StateDir) -> FarmState:
    running = farmstate.read(state.state_file)
    if running is None or farmstate.keeper(running) is None or running.phase != "running":
        raise CorralError("no farm runs here", "`corral up` starts it as the farm file says")
    return running


def _show(prepared: Prepared) -> None:
    found = prepared.difference
    rows = [("change", part.name, ", ".join(prepared.reasons.get(part.name, ()))) for part in found.changed]
    rows += [("add", part.name, f"port {part.port}") for part in found.added]
    rows += [("remove", name, "") for name in found.removed]
    rows += [("restart", "litellm", "what the gate knows of the farm changes")] if found.gate else []
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)


def _ask(prepared: Prepared, *, yes: bool) -> None:
    notes = []
    if prepared.alone:
        notes.append(f"{', '.join(prepared.alone)}: the only server restarts, and answers nothing meanwhile")
    if prepared.difference.gate:
        notes.append("the gate restarts, and answers nothing for some ten seconds")
    for note in notes:
        out.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False, soft_wrap=True)
    if notes and not yes:
        if not sys.stdin.isatty():
            raise CorralError("this interrupts service, and cannot ask here", "say --yes if you mean it", exit_code=2)
        typer.confirm("Go on?", abort=True)
