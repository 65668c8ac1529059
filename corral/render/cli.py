"""`corral render`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from corral.farm import load_farm
from corral.render.farm import DEFAULT_TARGETS, Target, render
from corral.render.writing import Change, compare, write

DRIFT = 1
"""Exit code of --check where the files are not what the farm file gives."""

_STYLES = {"created": "green", "changed": "yellow", "unchanged": "dim", "stale": "magenta"}
DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def render_command(
    file: Annotated[Path, typer.Option("--file", "-f", help="The farm file.")] = Path("corral.yaml"),
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to render into.")] = Path(),
    target: Annotated[
        list[Target] | None, typer.Option("--target", "-t", help="What to render; all but kubernetes if left out.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; show what differs, and exit 1 if any does.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove rendered files that nothing asks for now.")] = False,
) -> None:
    """Write what the farm file decides: compose files, LiteLLM's and Prometheus's configuration, load-test targets.

    Files that are as they should be are not touched. Secrets are in none of them: each names its variables, and
    reads them from .env.

    [bold]Examples[/bold]

      corral render

      corral render --check                              in CI, or before a commit

      corral render --file farms/two-hosts.yaml --out rendered

      corral render --target kubernetes --out deploy

      corral render --prune                              after a host or a server was taken out
    """
    farm = load_farm(file).value
    targets = [each for each in Target if each in (target or DEFAULT_TARGETS)]
    changes = compare(out, render(farm, targets), targets)
    console = Console(soft_wrap=True, highlight=False)
    if check:
        _show_drift(console, changes, file)
        return
    write(out, changes, prune=prune)
    _show(console, out, changes, prune=prune)


def _show_drift(console: Console, changes: tuple[Change, ...], file: Path) -> None:
    drifted = [change for change in changes if change.state != "unchanged"]
    for change in drifted:
        for line in change.diff():
            console.print(Text(line, style=DIFF_STYLES.get(line[:1], "")))
    if drifted:
        console.print(
            f"{len(drifted)} of {len(changes)} rendered files are not what {file} gives; run corral render",
            markup=False,
        )
        raise typer.Exit(DRIFT)
    console.print(f"{len(changes)} rendered files are what {file} gives", markup=False)


def _show(console: Console, out: Path, changes: tuple[Change, ...], *, prune: bool) -> None:
    for change in changes:
        said = "removed" if change.state == "stale" and prune else change.state
        console.print(Text(f"{said:<10}{out / change.path}", style=_STYLES[change.state]))
    if not prune and any(change.state == "stale" for change in changes):
        console.print("Stale files come from an earlier farm file; corral render --prune removes them.")


app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
app.command("render")(render_command)
