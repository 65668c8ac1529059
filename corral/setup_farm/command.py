"""`corral init`: looks, asks, and writes; it never writes over a farm file, nor over secrets."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from corral import secrets
from corral.errors import CorralError
from corral.farm import FarmFile, load_farm
from corral.farm.validate import summary
from corral.farm.values import Name
from corral.paths import StateDir
from corral.plan.check import check_plan
from corral.ports import is_number
from corral.setup_farm import presets
from corral.setup_farm.draft import Answers, Draft, default_preset, draft, fits_cpu, fitting, free_gate_port, text
from corral.setup_farm.presets import PRESETS, Preset
from corral.setup_farm.surroundings import Surroundings, look_around
from corral.yamlfile import YamlFileErrors

DEFAULT_NAME = "corral"
HEADER_DEADLINE_S = 15.0
"""How long a model hub may take; without its answer the estimate counts, and `corral up` plans again."""
_NAME: TypeAdapter[str] = TypeAdapter(Name)
T = TypeVar("T")


@dataclass(frozen=True)
class Kept:
    """What was there before: the old farm file's new name, and whether there were secrets."""

    backup: Path | None
    secrets: bool


def command(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take what fits.")] = False,
    name: Annotated[str | None, typer.Option(help="The farm's name.")] = None,
    models: Annotated[
        str | None, typer.Option(metavar="PRESET", help="The chat model; the question lists all.")
    ] = None,
    port: Annotated[str | None, typer.Option(help="The gate's port.")] = None,
    file: Annotated[Path, typer.Option("--file", "-f", help="Where the farm file goes.")] = Path("corral.yaml"),
    state: Annotated[
        Path, typer.Option("--state", envvar="CORRAL_STATE", help="Folder with the farm's data and secrets.")
    ] = Path(".corral"),
    force: Annotated[bool, typer.Option("--force", help="Keep the farm file that is there as FILE.bak.")] = False,
) -> None:
    """Write a farm file that fits this machine, and the farm's secrets (mode 600). Overwrites neither.

    Without a GPU, or without a llama-server that can use it, the farm serves small models that come with Corral; with
    GPUs, the well-known model that makes most use of them.

    [bold]Examples[/bold]

      corral init

      corral init --yes

      corral init --models llama-3.1-8b --port 8000 --force
    """
    if file.exists() and not force:
        raise CorralError(
            f"{file} is there: {_what_is(file)}", "edit it; or --force, which keeps it under another name", exit_code=2
        )
    if not yes and not somebody_is_there():
        raise CorralError("nobody is there to answer questions", "add --yes to take what fits", exit_code=2)
    where = StateDir(state.resolve())
    seen = look_around(where, os.environ)
    _tell_seen(seen)
    plan = draft(seen, _answers(seen, name, models, port, ask=not yes))
    _tell_written(file, plan, where, write(file, plan, where))


def somebody_is_there() -> bool:
    """Return whether a person can answer a question."""
    return sys.stdin.isatty()


def write(file: Path, plan: Draft, state: StateDir) -> Kept:
    """Write the farm file and, where there are none, the secrets; a farm file that is there is renamed first.

    Raises:
        CorralError: by its header, the model does not fit the GPUs that were chosen for it; or the secrets of an
            existing database are gone, or incomplete. No farm file was written then.
    """
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        new.write_text(text(plan, file.parent), encoding="utf-8")
        _check_planned(load_farm(new).value, file.parent, plan, state)
        had_secrets = state.secrets_file.exists()
        state.create()
        secrets.load_or_create(state.secrets_file, database_exists=(state.postgres_data / "PG_VERSION").exists())
        backup = _backup(file) if file.exists() else None
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
    return Kept(backup, had_secrets)


def _check_planned(farm: FarmFile, base: Path, plan: Draft, state: StateDir) -> None:
    """Hold the estimate by which the model was chosen against its header, where that can be had."""
    if not plan.cards:
        return
    state.create()  # fetched headers are kept there
    try:
        check_plan(farm, base, state.models, state.headers, os.environ, HEADER_DEADLINE_S)
    except CorralError as error:
        mend = f"choose a smaller model with --models; nothing was written ({error.mend})"
        raise CorralError(f"{plan.answers.preset.name}: {error.cause}", mend) from error


def _backup(file: Path) -> Path:
    """Rename a file to FILE.bak, or where that is taken to FILE.bak.1, FILE.bak.2, ..."""
    backup, number = file.with_name(f"{file.name}.bak"), 0
    while backup.exists():
        number += 1
        backup = file.with_name(f"{file.name}.bak.{number}")
    return file.rename(backup)


def _what_is(file: Path) -> str:
    try:
        return summary(load_farm(file).value)
    except YamlFileErrors as errors:
        found = len(errors.problems)
        return f"a file with {found} thing{'' if found == 1 else 's'} wrong, which `corral validate` tells"


def _answers(seen: Surroundings, name: str | None, preset: str | None, port: str | None, *, ask: bool) -> Answers:
    """Return what is to be written: an option where one is given, else the answer to a question, else what fits."""

    def settle(given: str | None, question: str, default: str, parse: Callable[[str], T]) -> T:
        return _asked(question, default, parse) if given is None and ask else parse(default if given is None else given)

    chosen_name = settle(name, "The farm's name", DEFAULT_NAME, _name)
    if preset is None and ask:
        _tell_presets(seen)
    return Answers(
        name=chosen_name,
        preset=settle(preset, "The chat model, by name or number", default_preset(seen).name, _preset),
        port=settle(port, "The gate's port", str(free_gate_port(seen)), _port),
    )


def _asked(question: str, default: str, parse: Callable[[str], T]) -> T:
    """Ask until the answer is one; `parse` raises CorralError for what is none."""

    def value(text: str) -> T:
        try:
            return parse(text.strip())
        except CorralError as error:
            raise typer.BadParameter(str(error)) from error  # is told, and the question asked again

    answer: T = typer.prompt(question, default=default, value_proc=value)
    return answer


def _name(text: str) -> str:
    try:
        return _NAME.validate_python(text)
    except ValidationError as error:
        cause, _, mend = error.errors()[0]["msg"].removeprefix("Value error, ").partition("; ")
        raise CorralError(f"{text!r} {cause}", mend, exit_code=2) from None


def _preset(text: str) -> Preset:
    numbered = {str(number): preset for number, preset in enumerate(PRESETS, start=1)}
    found = presets.named(text) or numbered.get(text)
    if found is None:
        known = ", ".join(preset.name for preset in PRESETS)
        raise CorralError(f"no preset is called {text!r}", f"there are {known}", exit_code=2)
    return found


def _port(text: str) -> int:
    if not is_number(text):
        raise CorralError(f"{text!r} is no port", "give a number from 1 to 65535", exit_code=2)
    return int(text)


def _tell_seen(seen: Surroundings) -> None:
    typer.echo(f"This machine: {seen.architecture}, {seen.cores} cores, {seen.memory_mib:,} MiB of memory.")
    for place, gpu in enumerate(seen.gpus):
        capability = f", compute capability {gpu.compute_capability}" if gpu.compute_capability else ""
        power = f", limited to {gpu.power_limit_w} W" if gpu.power_limit_w else ""
        typer.echo(f"GPU {place}: {gpu.name or 'unnamed'}, {gpu.memory_mib:,} MiB{capability}{power}")
    if not seen.gpus:
        typer.echo("GPUs: no NVIDIA GPU that answers.")
    typer.echo(f"llama-server: {seen.llama_server or 'the packaged one, which serves on the CPU'}.")
    if seen.docker:
        typer.echo(
            "Docker is there: a farm of containers is described in farms/two-hosts.yaml; this one runs processes."
        )
    for note in seen.notes:
        typer.echo(f"note: {note}")
    if seen.gpus and not seen.serves_on_gpus:
        typer.echo("note: no llama-server here can use the GPUs; set LLAMA_SERVER to one that can, and run this again")
    if not seen.can_serve:
        typer.echo("note: the packaged llama-server does not run on this CPU; docs/own-llama-server.md says what does")


def _tell_presets(seen: Surroundings) -> None:
    for number, preset in enumerate(PRESETS, start=1):
        cards = len(fitting(seen, preset))
        where = (
            f"fits {cards} GPU{'' if cards == 1 else 's'}" if cards else "on the CPU" if fits_cpu(seen, preset) else ""
        )
        typer.echo(
            f"{number:3} {preset.name:18} {preset.needs_mib:7,} MiB  {where or 'does not fit':12} {preset.title}"
        )


def _tell_written(file: Path, plan: Draft, state: StateDir, kept: Kept) -> None:
    if kept.backup is not None:
        typer.echo(f"{kept.backup}: the farm file that was there")
    typer.echo(f"{file}: {summary(load_farm(file).value)}")
    said = "kept as they were" if kept.secrets else "fresh, for you alone (mode 600)"
    typer.echo(f"{state.secrets_file}: secrets, {said}")
    preset = plan.answers.preset
    fetch = "" if preset.is_packaged else f"corral models pull ({preset.weights_mib / 1024:.1f} GiB), then "
    typer.echo(f"Next: {fetch}corral up")
