"""`corral capacity`.

Exit codes: 0 found for every model, 1 not (none held, or the farm failed), 2 the arguments are wrong, 130 stopped.
"""

import asyncio
import difflib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from corral.bench.store import DEFAULT_FILE
from corral.capacity import finding_table, plot
from corral.capacity.beside import Servers
from corral.capacity.farm_file import changes_of, with_changes
from corral.capacity.finding import HEADROOM, Finding, finding
from corral.capacity.record import Record, taken_up
from corral.capacity.run import Pace, in_use, searched, so_far
from corral.capacity.trial import Client
from corral.capacity.verdict import Trial, broken
from corral.capacity.workload import asker
from corral.errors import CorralError
from corral.loadtest import keys
from corral.loadtest.aim import Aim, farm_here, farm_of
from corral.loadtest.cli import KEY_VARIABLE
from corral.loadtest.workload import Workload, WorkloadOption, read
from corral.options import DEFAULT_STATE, FileOption, StateOption, farm_file, state_dir
from corral.progress import for_console
from corral.render.cli import DIFF_STYLES
from corral.render.k6 import ModelTarget

STOPPED = 130
PIPED_WIDTH = 160  # columns, where no terminal says how wide it is

out = Console()
err = Console(stderr=True)
if not out.is_terminal:
    out.width = PIPED_WIDTH


@dataclass(frozen=True)
class _Asked:
    """What a person asked for."""

    models: list[str]
    workload: Workload
    pace: Pace
    headroom: float
    folder: Path
    resume: bool
    draw: bool


def command(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL...", help="Models; all if none is named.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Shortest trial.")] = 60,
    requests: Annotated[
        int, typer.Option(min=20, help="Fewest judged requests of a trial; more tell more surely.")
    ] = 200,
    precision: Annotated[float, typer.Option(min=0.01, max=1, help="Ends when the knee is known so well.")] = 0.05,
    headroom: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the knee that stays free.")] = HEADROOM,
    seed: Annotated[int, typer.Option(min=1, help="Draws moments and requests.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a search was stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even where the farm is in use: its users will wait.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write what is suggested into the farm file.")] = False,
    draw: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw latency over load.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, progress on stderr.")] = False,
    results: Annotated[Path, typer.Option(metavar="FOLDER", help="Gets trials and plots.")] = (
        DEFAULT_FILE.parent / "capacity"
    ),
    targets: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A rendered targets.json; else the farm of this machine.")
    ] = None,
    workload: WorkloadOption = None,
    state: StateOption = DEFAULT_STATE,
    file: FileOption = None,
) -> None:
    """Find how many requests a minute each model bears, by raising the rate until an objective breaks.

    Requests come at random moments whether earlier ones were answered or not. Each model is loaded alone. Objectives
    are those of the farm file (models.NAME.objectives). Ctrl-C stops it; what was found stays, and --resume goes on.

    [bold]Examples[/bold]

      corral capacity

      corral capacity chat --seconds 120 --write

      corral capacity --resume

      LITELLM_MASTER_KEY=... GPU_SERVER_KEY=... corral capacity --targets load-tests/targets.json
    """
    path = farm_file(file)
    if draw:
        plot.check()
    if write:
        with_changes(path, [])  # what cannot be written in the end should not take an hour to be found out
    aim = (
        nullcontext(farm_of(targets, os.environ))
        if targets
        else farm_here(state_dir(state), path, for_console(err if as_json else out))
    )
    asked = _Asked(
        models or [], read(workload), Pace(seconds, requests, precision, seed), headroom, results, resume, draw
    )
    with aim as farm:
        wanted = _models(farm, asked.models)
        _refuse_if_used(farm, force=force)
        found, stopped = _search_all(farm, wanted, asked, err if as_json else out)
    if as_json:
        sys.stdout.write(json.dumps(finding_table.as_data(found), indent=1) + "\n")
    else:
        finding_table.show(out, found, headroom)
    if write and not stopped:
        _write(path, found)
    if stopped:
        raise typer.Exit(STOPPED)
    if not all(each.complete for each in found):
        raise typer.Exit(1)


def _models(farm: Aim, named: Sequence[str]) -> list[ModelTarget]:
    known = {model["name"]: model for model in farm.targets["models"]}
    for name in named:
        if name not in known:
            raise CorralError(f"there is no model {name!r}", f"name some of {', '.join(known)}", exit_code=2)
        asker(known[name]["mode"])
    loadable = [model for model in known.values() if model["mode"] in ("chat", "embedding", "rerank")]
    return [known[name] for name in named] or loadable


def _refuse_if_used(farm: Aim, *, force: bool) -> None:
    if force:
        return
    if farm.server_key is None:
        raise CorralError(
            "whether the farm is in use cannot be seen: GPU_SERVER_KEY is not set",
            "set it to the servers' key, or say --force if nobody uses the farm now",
            exit_code=2,
        )
    used = asyncio.run(in_use(farm.targets["servers"], farm.server_key))
    if used is not None:
        raise CorralError(f"the farm is in use ({used})", "wait until it is quiet, or say --force: its users will wait")


def _search_all(
    farm: Aim, models: Sequence[ModelTarget], asked: _Asked, console: Console
) -> tuple[list[Finding], bool]:
    """Search model after model; return what was found, and whether it was stopped before the end."""
    found: list[Finding] = []
    given = os.environ.get(KEY_VARIABLE)
    with nullcontext(given) if given else keys.one(farm.manager()) as key:
        for model in models:
            record = _record(farm, model, asked)
            stopped = False
            try:
                asyncio.run(_search(farm, model, key, record, asked, console))
            except KeyboardInterrupt:
                stopped = True
                console.print("stopped; what was found so far:", highlight=False)
            if record.start_rpm:
                found.append(_found(model, record, asked))
            if stopped:
                return found, True
    return found, False


def _record(farm: Aim, model: ModelTarget, asked: _Asked) -> Record:
    path = asked.folder / farm.targets["farm"] / f"{model['name']}.json"
    settings = {
        **asdict(asked.pace),
        "objectives": dict(model["objectives"]),
        "workload": asked.workload.model_dump(),
        "servers": model["servers"],
        "slots": model["slots"],
    }
    return taken_up(path, settings) if asked.resume else Record(path, settings)


async def _search(farm: Aim, model: ModelTarget, key: str, record: Record, asked: _Asked, console: Console) -> None:
    own = [server for server in farm.targets["servers"] if server["name"] in model["servers"]]
    servers = Servers(own, farm.server_key) if farm.server_key else None
    with Status("", console=console) as status:
        try:
            async with Client(farm.targets["gate"], key, model, asked.workload, servers, farm.parts) as client:
                status.update(f"{model['name']}: a few requests without load")
                await searched(
                    client,
                    record,
                    asked.pace,
                    lambda trial: console.print(finding_table.trial_line(trial, model), highlight=False),
                    lambda rate, sent, done: status.update(
                        f"{model['name']}: {rate:.1f} a minute: {sent} sent, {done} answered"
                    ),
                )
        finally:
            if servers is not None:
                await servers.close()


def _found(model: ModelTarget, record: Record, asked: _Asked) -> Finding:
    def broke(trial: Trial) -> bool:
        return broken(trial, model["objectives"], model["slots"]) is not None

    search = so_far(record, broke, asked.pace.precision)
    found = finding(model, search, record.trials, record.unloaded_s, asked.headroom)
    if asked.draw and record.trials:
        plot.plot(record.path.with_suffix(".svg"), model, record.trials, found)
    return found


def _write(path: Path, found: Sequence[Finding]) -> None:
    suggested = {
        each.model: {"rpm": each.rpm, "parallel": each.parallel, "max_queue": each.max_queue}
        for each in found
        if each.complete and each.rpm is not None and each.parallel is not None and each.max_queue is not None
    }
    before, after = with_changes(path, changes_of(suggested))
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), str(path), lineterm="", n=1):
        out.print(line, style=DIFF_STYLES.get(line[:1], ""), highlight=False, markup=False)
    path.write_text(after, encoding="utf-8")
    out.print(f"Written to {path}; bring the farm to it: corral apply", highlight=False)
