"""`python -m corral.models prepare|verify|list`: a one-shot, so that what stays running never loads numpy."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from corral.models.catalogue import CATALOGUE
from corral.models.errors import ModelError
from corral.models.preparation import prepare, verify

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Small models that come in packages.")

Into = Annotated[Path, typer.Option("--into", help="Where converted models are kept.", envvar="CORRAL_MODELS")]
DEFAULT_DIR = Path(".corral/models")
PIPED_WIDTH = 160  # columns, where no terminal says how wide it is


@app.command("prepare")
def prepare_command(
    into: Into = DEFAULT_DIR,
    as_json: Annotated[bool, typer.Option("--json", help='Print {"name": "path"}; the steps go to stderr.')] = False,
) -> None:
    """Make every model ready to serve; quick when it is."""
    with _one_line_errors():
        paths = prepare(into.absolute(), progress=lambda line: typer.echo(line, err=as_json))
    if as_json:
        typer.echo(json.dumps({name: str(path) for name, path in paths.items()}))


@app.command("verify")
def verify_command(into: Into = DEFAULT_DIR) -> None:
    """Hash every file again, whatever was seen before; exit code 1 if one is wrong."""
    with _one_line_errors():
        checks = verify(into.absolute())
    for check in checks:
        if check.problem is None:
            typer.echo(f"{check.model}: {check.path} is right")
        else:
            typer.echo(f"error: {check.model}: {check.path} {check.problem}; {check.mend}", err=True)
    if any(check.problem for check in checks):
        raise typer.Exit(1)


@app.command("list")
def list_command(into: Into = DEFAULT_DIR) -> None:
    """Show the models, where they come from and whether they are ready."""
    table = Table("model", "what", "package", "licence", "context", "dimensions", "size", "state", box=None)
    for model in CATALOGUE.values():
        try:
            state = "ready" if model.location(into.absolute()).is_file() else "not prepared"
        except ModelError:
            state = "package missing"
        table.add_row(
            model.name,
            model.title,
            model.distribution,
            model.licence,
            f"{model.context:,}",
            str(model.dimensions or "-"),
            f"{model.served.size / 1e6:.0f} MB",
            state,
        )
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _on_sigterm(_signal: int, _frame: object) -> NoReturn:
    """Unwind, so that a half-written file is removed."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _on_sigterm)
    app(prog_name="python -m corral.models")
