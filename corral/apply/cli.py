"""`corral apply`, `corral rollback`, `corral history`."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from corral import farmstate
from corral.apply import on_hosts, roll_out
from corral.apply.change import Prepared, carry_out, prepare
from corral.apply.history import History, How
from corral.apply.steps import Steps
from corral.errors import CorralError
from corral.farm import load_farm
from corral.farmstate import FarmState
from corral.monitoring import beside as monitoring_beside
from corral.options import DEFAULT_STATE, FileOption, StateOption, environment_of_parts, farm_file, state_dir
from corral.paths import StateDir
from corral.progress import for_console
from corral.render.cli import DIFF_STYLES
from corral.up import alone, known_secrets

out = Console()

_GATES_PACE_S = 1.0
"""How much later than it should the gate may come back to a server."""
OutOption = Annotated[
    Path, typer.Option("--out", "-o", help="The folder with the rendered files of a farm of containers.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def apply(
    state: StateOption = DEFAULT_STATE,
    file: FileOption = None,
    rendered: OutOption = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    yes: YesOption = False,
) -> None:
    """Change the running farm to what the farm file says, one server at a time; put it all back if one fails.

    A server finishes its work before it is replaced, and must be ready and answer a real request before the next
    one's turn. Asks only where a model would not answer for a while: its single server restarts, or the gate does.

    A farm of containers is changed through the Docker engines of its hosts (hosts.NAME.docker), from the rendered
    files in --out, which are written anew; run it on the gate's host. Where nothing runs yet, all of it is started.

    [bold]Examples[/bold]

      corral apply --dry-run

      corral apply

      corral apply --file farms/laptop.yaml --yes
    """
    _change(state_dir(state), farm_file(file), rendered, dry_run=dry_run, yes=yes, how="apply")


def rollback(
    number: Annotated[int | None, typer.Argument(help="An entry of the history; the one before the last.")] = None,
    state: StateOption = DEFAULT_STATE,
    rendered: OutOption = Path(),
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
    _change(where, history.path(number), rendered, dry_run=False, yes=yes, how="rollback")
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


def _change(state: StateDir, file: Path, out_folder: Path, *, dry_run: bool, yes: bool, how: How) -> None:
    if on_hosts.is_for_hosts(load_farm(file).value):
        _change_hosts(state, file, out_folder, dry_run=dry_run, yes=yes, how=how)
    else:
        _change_here(state, file, dry_run=dry_run, yes=yes, how=how)


def _change_here(state: StateDir, file: Path, *, dry_run: bool, yes: bool, how: How) -> None:
    progress = for_console(out)
    with alone(state, progress):
        running = _running(state)
        secrets = known_secrets(state)
        prepared = prepare(state, running, file, secrets, environment_of_parts(os.environ))
        if prepared.difference.is_empty and not prepared.watched_otherwise:
            out.print("The farm runs as the farm file says; nothing to change.", highlight=False)
            return
        for note in prepared.notes:
            progress.note(note)
        _show(prepared)
        if dry_run:
            return
        _ask(prepared.alone, gate_restarts=prepared.difference.gate is not None, yes=yes)
        began = time.monotonic()
        with progress:
            settle_s = prepared.farm.file.proxy.routing.cooldown_s + _GATES_PACE_S
            carry_out(state, running, prepared, secrets, Steps(state, progress.show, settle_s), how)
        monitoring_beside.keep(state, environment_of_parts(os.environ), progress)
        out.print(f"Changed in {time.monotonic() - began:.1f} s.", highlight=False)


def _change_hosts(state: StateDir, file: Path, out_folder: Path, *, dry_run: bool, yes: bool, how: How) -> None:
    progress = for_console(out)
    state.create()
    with alone(state, progress):
        prepared = on_hosts.prepare(state, file, out_folder.absolute(), os.environ)
        if prepared.is_empty:
            out.print("The farm runs as the farm file says; nothing to change.", highlight=False)
            return
        for note in prepared.notes:
            progress.note(note)
        _show_hosts(prepared)
        if dry_run:
            return
        _ask(prepared.alone, gate_restarts=prepared.gate_restarts, yes=yes)
        began = time.monotonic()
        roll_out.carry_out(state, prepared, _sayer(began), how)
        out.print(f"Changed in {time.monotonic() - began:.1f} s.", highlight=False)


def _show_hosts(prepared: on_hosts.PreparedHosts) -> None:
    for change in prepared.files:
        for line in change.diff() if change.state != "unchanged" else ():
            out.print(Text(line, style=DIFF_STYLES.get(line[:1], "")), soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    for step in prepared.steps:
        table.add_row(*map(escape, (step.doing, step.service, step.project.engine.said)))
    out.print(table)


def _sayer(began: float) -> roll_out.Say:
    def say(line: str) -> None:
        out.print(f"{time.monotonic() - began:6.1f} s  {escape(line)}", highlight=False, soft_wrap=True)

    return say


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
    rows += [("change", "monitoring", "its part of the farm file")] if prepared.watched_otherwise else []
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)


def _ask(single: Sequence[str], *, gate_restarts: bool, yes: bool) -> None:
    notes = []
    if single:
        notes.append(f"{', '.join(single)}: the only server restarts, and answers nothing meanwhile")
    if gate_restarts:
        notes.append("the gate restarts, and answers nothing for some ten seconds")
    for note in notes:
        out.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False, soft_wrap=True)
    if notes and not yes:
        if not sys.stdin.isatty():
            raise CorralError("this interrupts service, and cannot ask here", "say --yes if you mean it", exit_code=2)
        typer.confirm("Go on?", abort=True)
