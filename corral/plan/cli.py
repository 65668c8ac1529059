"""`corral plan`: whether the farm of a file fits its machines, and what would make it.

Exit codes: 0 it fits, 1 it does not (or a model is not known), 2 the arguments or the farm file are wrong. Looks at
files, asks servers for headers, and changes nothing but its cache of them.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from corral.errors import CorralError
from corral.farm import FarmFile, Loaded, load_farm
from corral.machine import Machine, look
from corral.models.remote import Hub
from corral.options import farm_file
from corral.plan.confirming import Comparison, confirmed
from corral.plan.document import document
from corral.plan.figures import Finding, Plan
from corral.plan.header_cache import HeaderCache
from corral.plan.headers import Places, headers_of
from corral.plan.here import is_here, machine_findings, memory_here_mib, with_machine
from corral.plan.known import Known
from corral.plan.plan import plan
from corral.plan.table import show
from corral.planner.memory import DEFAULT_MARGIN_BYTES, MIB

PIPED_WIDTH = 200  # columns, where no terminal says how wide it is
DEFAULT_STATE = Path(".corral")

app = typer.Typer(name="plan", add_completion=False, rich_markup_mode="rich")


@app.command("plan")
def plan_command(
    farm: Annotated[Path | None, typer.Argument(help="The farm file; corral.yaml, else farms/laptop.yaml.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="The same, as other commands have it.")] = None,
    margin: Annotated[
        int, typer.Option(metavar="MIB", min=0, help="What must stay free on each GPU.")
    ] = DEFAULT_MARGIN_BYTES // MIB,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="A model's GGUF file, or its first MiBs.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server: what is here must be enough.")] = False,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="A model whose header cannot be had is no error.")
    ] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Run llama-server's own memory fit for models that are here.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    state: Annotated[
        Path,
        typer.Option("--state", envvar="CORRAL_STATE", help="Folder with the farm's data; headers are kept there."),
    ] = DEFAULT_STATE,
    models: Annotated[
        Path | None, typer.Option("--models", envvar="CORRAL_MODELS", help="Folder with the models; <state>/models.")
    ] = None,
) -> None:
    """Reckon what every server takes of its GPU and its host, and what would make fit what does not.

    From the models' headers alone: files that are here, else their first MiBs from where they come. Weights and KV
    cache are exact, compute is an upper bound. Changes nothing.

    [bold]Examples[/bold]

      corral plan

      corral plan farms/reference.yaml --margin 256

      corral plan --json | jq -r '.findings[] | select(.level == "error") | .mend'

      corral plan --offline --header llama=llama.gguf

      LLAMA_SERVER=~/llama-server corral plan --confirm
    """
    try:
        path = _file(farm, file)
        loaded = load_farm(path)
        places = Places(
            base=path.absolute().parent,
            models=(models or state / "models").absolute(),
            cache=HeaderCache(state.absolute() / "headers"),
            hub=Hub.from_environment(os.environ),
            offline=offline,
            given=dict(_given(text) for text in header or ()),
        )
        machine = _machine(loaded.value, state, needed=confirm)
        known, planned, compared = asyncio.run(
            _planned(loaded.value, places, machine, margin * MIB, allow_unknown=allow_unknown, confirm=confirm)
        )
    except CorralError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    _print(loaded, known, planned, compared, as_json=as_json)
    raise typer.Exit(0 if planned.fits else 1)


async def _planned(
    farm: FarmFile,
    places: Places,
    machine: Machine | None,
    margin_bytes: int,
    *,
    allow_unknown: bool,
    confirm: bool,
) -> tuple[Known, Plan, tuple[Comparison, ...]]:
    found: list[Finding] = []
    if machine is not None and any(is_here(host) for host in farm.hosts.values()):
        farm = with_machine(farm, machine, memory_here_mib())
        found += machine_findings(farm, machine)
    known = await headers_of(farm, places)
    planned = plan(farm, known, margin_bytes, allow_unknown=allow_unknown, found=found)
    if not confirm:
        return known, planned, ()
    program = machine.llama_server.path if machine and machine.llama_server else None
    compared, more = await confirmed(planned, known, program, os.environ)
    return known, planned.with_findings(more), compared


def _file(farm: Path | None, file: Path | None) -> Path:
    if farm is not None and file is not None:
        raise CorralError("the farm file is given twice", "leave out --file", exit_code=2)
    return farm_file(farm or file)


def _given(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise CorralError(f"--header {text!r} is incomplete", "give --header NAME=FILE", exit_code=2)
    return name, Path(path)


def _machine(farm: FarmFile, state: Path, *, needed: bool) -> Machine | None:
    """Look at this machine, where the farm runs on it or a llama-server is needed."""
    if needed or any(is_here(host) for host in farm.hosts.values()):
        return look(state.absolute(), os.environ)
    return None


def _print(
    loaded: Loaded[FarmFile], known: Known, planned: Plan, compared: tuple[Comparison, ...], *, as_json: bool
) -> None:
    if as_json:
        found = document(planned, loaded.positions, known.origins, compared)
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    show(planned, console, loaded.positions, compared)


if __name__ == "__main__":
    app(prog_name="corral plan")
