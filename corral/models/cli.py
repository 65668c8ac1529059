"""`corral models pull | list | verify | rm`: the GGUF files that a farm serves.

Exit codes: 0 done, 1 a model failed or is not right, 2 the arguments or the farm file are wrong. An error is one line
on stderr: `cause; mend`.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from corral.models import inventory
from corral.models.disk import megabytes
from corral.models.errors import ModelError
from corral.models.fetch import PARALLEL, Pulled, pull
from corral.models.pull_progress import Bars, Lines
from corral.models.remote import Hub
from corral.models.wanted import DEFAULT_FILE, Wanted, wanted_models

PIPED_WIDTH = 200  # columns, where no terminal says how wide it is
DEFAULT_DIR = Path(".corral/models")
INTERRUPTED = 130
_STATE_STYLES = {"ready": "green", "missing": "yellow", "wrong": "red"}

app = typer.Typer(name="models", no_args_is_help=True, help="Models: pull, list, verify and remove GGUF files.")

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Models of the farm file; all if none.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help=f"The farm file; {DEFAULT_FILE} if none is named and it is there.")
]
IntoOption = Annotated[Path, typer.Option("--into", envvar="CORRAL_MODELS", help="The folder with the models.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("pull")
def pull_command(
    names: Names = None,
    file: FileOption = None,
    into: IntoOption = DEFAULT_DIR,
    parallel: Annotated[int, typer.Option(min=1, max=16, help="Downloads at a time.")] = PARALLEL,
    as_json: JsonOption = False,
) -> None:
    """Make models ready: download what is missing, go on with what was begun, leave alone what is right.

    A download keeps its name's old file until the new one is whole and its SHA-256 is right. Ctrl-C keeps what came.
    Gated models: set HF_TOKEN; another hub: set HF_ENDPOINT.

    [bold]Examples[/bold]

      corral models pull

      corral models pull llama --into /models

      HF_TOKEN=... corral models pull --file farms/reference.yaml --json
    """
    with _one_line_errors():
        wanted = _chosen(_wanted(file), names)
        hub = Hub.from_environment(os.environ)
        console = Console(stderr=True)
        try:
            with (Bars if console.is_terminal else Lines)(console) as progress:
                results = asyncio.run(pull(wanted, into.absolute(), progress, hub=hub, parallel=parallel))
        except KeyboardInterrupt:
            typer.echo("interrupted: what was fetched is kept; the same command goes on from there", err=True)
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        _print_json([_pulled_as_data(result) for result in results])
    for result in results:
        _tell(result, quiet=as_json)
    if any(result.outcome == "failed" for result in results):
        raise typer.Exit(1)


@app.command("list")
def list_command(
    file: FileOption = None,
    into: IntoOption = DEFAULT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show each model: source, size, quantisation, and whether it is ready, partial, missing or wrong.

    Looks at sizes and records only; `verify` hashes.

    [bold]Examples[/bold]

      corral models list

      corral models list --json | jq -r '.[] | select(.state != "ready") | .name'
    """
    with _one_line_errors():
        found = inventory.entries(_wanted(file), into.absolute())
    if as_json:
        _print_json([_entry_as_data(entry) for entry in found])
        return
    table = Table("model", "source", "size", "quantisation", "state", "", box=None, pad_edge=False)
    for entry in found:
        style = _STATE_STYLES.get(entry.state, "yellow")
        size = "-" if entry.size is None else megabytes(entry.size)
        table.add_row(
            entry.name, Text(entry.source), size, entry.quantisation or "-", Text(entry.state, style), Text(entry.why)
        )
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table)


@app.command("verify")
def verify_command(
    names: Names = None, file: FileOption = None, into: IntoOption = DEFAULT_DIR, as_json: JsonOption = False
) -> None:
    """Hash every file again, whatever was seen before; exit code 1 if one is wrong. About 3 s a gigabyte.

    [bold]Examples[/bold]

      corral models verify

      corral models verify llama --into /models
    """
    with _one_line_errors():
        verdicts = inventory.verify(_chosen(_wanted(file), names), into.absolute())
    if as_json:
        _print_json([_verdict_as_data(verdict) for verdict in verdicts])
    for verdict in verdicts:
        if verdict.problem is not None:
            typer.echo(f"error: {verdict.name}: {verdict.path} {verdict.problem}; {verdict.mend}", err=True)
        elif not as_json:
            doubt = "" if verdict.checked else ", as far as can be told without a SHA-256 in the farm file"
            typer.echo(f"{verdict.name}: {verdict.path} is right{doubt}")
    if any(verdict.problem for verdict in verdicts):
        raise typer.Exit(1)


@app.command("rm")
def rm_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Models; half-fetched ones too.")],
    file: FileOption = None,
    into: IntoOption = DEFAULT_DIR,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove models from the folder, or none of them if one cannot be. Asks first.

    What serves a model keeps it, and its room on the disk, until it is stopped.

    [bold]Examples[/bold]

      corral models rm llama

      corral models rm llama nomic --yes
    """
    with _one_line_errors():
        folder = into.absolute()
        sources = {one.name: one.source for one in _wanted(file)}
        planned = [inventory.removal(name, sources.get(name), folder) for name in dict.fromkeys(names)]
        if not yes:
            _ask(planned)
        for one in planned:
            inventory.remove(one, folder)
    if as_json:
        _print_json([{"name": one.name, "freed": one.size} for one in planned])
    else:
        for one in planned:
            typer.echo(f"{one.name}: removed, {megabytes(one.size)} are free again")


def somebody_is_there() -> bool:
    """Return whether a person can answer a question."""
    return sys.stdin.isatty()


def _wanted(file: Path | None) -> list[Wanted]:
    base = (file or DEFAULT_FILE).absolute().parent
    return [Wanted(name, source, base) for name, source in wanted_models(file).items()]


def _chosen(wanted: Sequence[Wanted], names: list[str] | None) -> list[Wanted]:
    known = {one.name: one for one in wanted}
    for name in names or ():
        if name not in known:
            raise ModelError(f"no model is called {name!r}", f"there are: {', '.join(known) or 'none'}", exit_code=2)
    return [known[name] for name in dict.fromkeys(names)] if names else list(wanted)


def _ask(planned: Sequence[inventory.Removal]) -> None:
    if not somebody_is_there():
        raise ModelError("nobody is there to confirm", "add --yes", exit_code=2)
    what = ", ".join(f"{one.name} ({megabytes(one.size)})" for one in planned)
    typer.confirm(f"Remove {what}?", abort=True, err=True)


def _tell(result: Pulled, *, quiet: bool) -> None:
    if result.error is not None:
        typer.echo(f"error: {result.name}: {result.error}", err=True)
        return
    if not result.checked:
        mend = "give sha256: in the farm file"
        typer.echo(f"warning: {result.name} is unchecked: nobody told its SHA-256; {mend}", err=True)
    if not quiet:
        how = "was there" if result.outcome == "found" else "fetched"
        typer.echo(f"{result.name}: {how}, {megabytes(result.size or 0)}, {result.path}")


def _pulled_as_data(result: Pulled) -> dict[str, Any]:
    return {
        "name": result.name,
        "outcome": result.outcome,
        "path": _text(result.path),
        "size": result.size,
        "checked": result.checked,
        "error": _text(result.error),
    }


def _entry_as_data(entry: inventory.Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "source": entry.source,
        "path": _text(entry.path),
        "size": entry.size,
        "quantisation": entry.quantisation,
        "state": entry.state,
        "why": entry.why or None,
    }


def _verdict_as_data(verdict: inventory.Verdict) -> dict[str, Any]:
    return {
        "name": verdict.name,
        "path": str(verdict.path),
        "right": verdict.problem is None,
        "checked": verdict.checked,
        "problem": verdict.problem,
        "mend": verdict.mend or None,
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Print a ModelError as one line and end the command with its exit code."""
    try:
        yield
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


if __name__ == "__main__":
    app(prog_name="corral models")
