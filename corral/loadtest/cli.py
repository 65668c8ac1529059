"""`corral load-test`.

Exit codes: 0 every objective was kept, 1 one was not, or the run failed, 2 the arguments are wrong.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corral.bench.cli import StoreOption
from corral.bench.store import DEFAULT_FILE, Run, Sample, opened
from corral.loadtest import k6, keys, samples
from corral.loadtest.aim import Aim, farm_here, farm_of
from corral.loadtest.killing import Death, killing
from corral.loadtest.soak import findings
from corral.loadtest.watch import Watched, watching
from corral.loadtest.workload import WorkloadOption, read
from corral.options import DEFAULT_STATE, FileOption, StateOption, farm_file, state_dir
from corral.paths import CHECKOUT
from corral.progress import for_console

DEFAULT_SCRIPT, DEFAULT_DURATION_S = "stress-all-gpus", 120
LEAST_DURATION_S = 10
SPACING = 3
"""chaos kills a server so many times in a run, at least every ten seconds."""
KEY_VARIABLE = "API_KEY"
PIPED_WIDTH = 160  # columns, where no terminal says how wide it is

out = Console()
if not out.is_terminal:
    out.width = PIPED_WIDTH


def command(
    script: Annotated[str, typer.Argument(metavar="SCRIPT", help="A script of load-tests/, see --list.")] = (
        DEFAULT_SCRIPT
    ),
    duration: Annotated[
        int, typer.Option(metavar="SECONDS", min=LEAST_DURATION_S, help="Length of the run; answers may take longer.")
    ] = DEFAULT_DURATION_S,
    seed: Annotated[int, typer.Option(min=1, help="Draws prompts and lengths; the same seed draws the same.")] = 1,
    label: Annotated[str, typer.Option(help="A name for the run, for corral bench compare.")] = "",
    targets: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A rendered targets.json; else the farm of this machine.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Tell what each script shows, and run none.")] = False,
    workload: WorkloadOption = None,
    store: StoreOption = DEFAULT_FILE,
    state: StateOption = DEFAULT_STATE,
    file: FileOption = None,
) -> None:
    """Run a k6 script against the farm; exit code 1 if an objective of corral.yaml is not kept.

    Where no farm runs on this machine, one is started for it and stopped afterwards. The key it uses is made for the
    run and revoked. Settings of a script (USERS, SESSIONS, CROWD, ...) come by environment; --list names them.

    [bold]Examples[/bold]

      corral load-test

      corral load-test embeddings --duration 60

      SESSIONS=50 corral load-test chat-sessions --label before

      corral load-test mixed --workload mine.json

      LITELLM_MASTER_KEY=... corral load-test mixed --targets load-tests/targets.json
    """
    if show:
        for name in k6.names():
            out.print(f"[bold]{name}[/bold]\n{escape(k6.header(name))}\n", highlight=False, soft_wrap=True)
        return
    k6.script(script)
    k6.binary()
    sent = read(workload)
    aim: AbstractContextManager[Aim] = (
        nullcontext(farm_of(targets, os.environ))
        if targets
        else farm_here(state_dir(state), farm_file(file), for_console(out))
    )
    began = datetime.now(UTC)
    results = store.parent.absolute() / f"{began:%Y%m%d-%H%M%S}-{script}"
    results.mkdir(parents=True)
    (results / "workload.json").write_text(sent.model_dump_json(indent=1), encoding="utf-8")
    with aim as farm:
        kept, watched, deaths = _run(script, farm, results, duration, seed)
    values = samples.read(results / k6.RAW_FILE)
    (results / k6.RAW_FILE).unlink()
    if watched.looks:
        out.print(_parts_table(watched))
    if script == "soak":
        kept = _judge_soak(watched, values) and kept
    kept = kept and all(death.back_after_s is not None for death in deaths)
    number = _keep(store, script, label, began, seed, kept=kept, results=results, values=values)
    out.print(f"Kept as run {number}, with {results / 'summary.html'}", highlight=False, soft_wrap=True)
    if not kept:
        raise typer.Exit(1)


def _run(script: str, farm: Aim, results: Path, duration_s: int, seed: int) -> tuple[bool, Watched, list[Death]]:
    (results / "targets.json").write_text(json.dumps(farm.targets, indent=1), encoding="utf-8")
    settings = {
        "TARGETS": str(results / "targets.json"), "WORKLOAD": str(results / "workload.json"),
        "DURATION_S": str(duration_s), "SEED": str(seed),
    }  # fmt: skip
    with ExitStack() as stack:
        if script == "keys":
            settings["KEYS"] = stack.enter_context(keys.limited(farm.manager()))
        settings[KEY_VARIABLE] = os.environ.get(KEY_VARIABLE) or stack.enter_context(keys.one(farm.manager()))
        deaths = stack.enter_context(_deaths(script, farm, duration_s))
        watched = stack.enter_context(watching(farm.parts))
        kept = k6.run(script, results, settings, quiet=not out.is_terminal)
    return kept, watched, deaths


@contextmanager
def _deaths(script: str, farm: Aim, duration_s: int) -> Iterator[list[Death]]:
    if script != "chaos" or farm.state is None or farm.server_key is None:
        yield []
        return
    every_s = max(10.0, duration_s / SPACING)
    with killing(farm.parts, farm.targets, farm.server_key, every_s, _say) as deaths:
        yield deaths


def _say(line: str) -> None:
    out.print(line, highlight=False)


def _parts_table(watched: Watched) -> Table:
    table = Table("part", "memory before", "after", "descriptors before", "after", "cores busy", "restarts")
    for name, looks in watched.looks.items():
        first, last = looks[0], looks[-1]
        table.add_row(
            name, f"{first.memory_mib} MiB", f"{last.memory_mib} MiB", str(first.descriptors), str(last.descriptors),
            f"{watched.cores(name):.2f}", str(last.restarts - first.restarts),
        )  # fmt: skip
    return table


def _judge_soak(watched: Watched, values: list[Sample]) -> bool:
    table = Table("over the run, after its first third", "found", "good")
    judged = list(findings(watched, values))
    for each in judged:
        table.add_row(each.what, each.found, "yes" if each.good else "[red]NO[/red]")
    out.print(table)
    return all(each.good for each in judged)


def _keep(
    store: Path,
    script: str,
    label: str,
    began: datetime,
    seed: int,
    *,
    kept: bool,
    results: Path,
    values: list[Sample],
) -> int:
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    run = Run(
        label, script, summary["farm"], began.isoformat(), summary["seconds"], seed, _revision(), kept, summary
    )  # fmt: skip
    with opened(store, create=True) as runs:
        return runs.add(run, values)


def _revision() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return described.stdout.strip()
