"""`corral bench list | compare`.

Exit codes of `compare`: 0 nothing is slower, 1 something is, 2 the arguments are wrong.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from corral.bench.compare import Comparison, compare
from corral.bench.store import DEFAULT_FILE, Run, opened

PIPED_WIDTH = 160  # columns, where no terminal says how wide it is

app = typer.Typer(name="bench", no_args_is_help=True, help="Runs of load tests: list them, compare two.")
StoreOption = Annotated[Path, typer.Option("--store", envvar="CORRAL_RUNS", help="The SQLite file with the runs.")]


@app.command("list")
def list_runs(store: StoreOption = DEFAULT_FILE) -> None:
    """List the runs, oldest first.

    [bold]Example[/bold]

      corral bench list
    """
    with opened(store) as runs:
        every = runs.runs()
    table = Table("number", "label", "script", "farm", "began", "seconds", "requests", "objectives", "revision")
    for run in every:
        requests = sum(model["requests"] for model in run.summary["models"])
        kept = "kept" if run.kept else "[red]broken[/red]"
        began = run.started_at[:16].replace("T", " ")
        table.add_row(
            str(run.id), run.label, run.script, run.farm, began, f"{run.seconds:.0f}", str(requests), kept, run.revision
        )
    _console().print(table)


@app.command("compare")
def compare_runs(
    a: Annotated[str, typer.Argument(metavar="A", help="The run to compare with: a number, a label, or last.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run to judge.")],
    tolerance: Annotated[float, typer.Option(min=0, help="Slower by less than this share is no regression.")] = 0.05,
    store: StoreOption = DEFAULT_FILE,
) -> None:
    """Compare two runs' medians; exit code 1 if B is slower than A with 95 % confidence.

    Runs of different scripts, lengths or seeds send different loads: that is said, and compared all the same.

    [bold]Examples[/bold]

      corral bench compare 3 last

      corral bench compare before after --tolerance 0.1
    """
    with opened(store) as runs:
        first, second = runs.find(a), runs.find(b)
        compared = compare(runs.samples(first), runs.samples(second))
    console = _console()
    for line in differences(first, second):
        console.print(f"[yellow]note[/yellow]  {line}", highlight=False)
    table = Table("metric", "model", f"median of {first.id}", f"of {second.id}", "ratio", "95 % confidence", "")
    for each in compared:
        interval = each.interval
        table.add_row(
            each.metric.removesuffix("_ms"),
            each.subject,
            f"{each.median_a:.0f} ms",
            f"{each.median_b:.0f} ms",
            f"{interval.ratio:.2f}",
            f"{interval.low:.2f} to {interval.high:.2f}",
            _verdict(each, tolerance),
        )
    console.print(table)
    if not compared:
        console.print("The runs have no metric in common with enough values; let them run longer.")
    if any(each.regressed(tolerance) for each in compared):
        raise typer.Exit(1)


def differences(a: Run, b: Run) -> list[str]:
    """Return in what two runs differ that should not, to be compared."""
    named = (("script", a.script, b.script), ("farm", a.farm, b.farm), ("seed", a.seed, b.seed))
    found = [f"another {name}: {of_a} and {of_b}" for name, of_a, of_b in named if of_a != of_b]
    if abs(a.seconds - b.seconds) > 0.2 * max(a.seconds, b.seconds):
        found.append(f"another length: {a.seconds:.0f} s and {b.seconds:.0f} s")
    return found


def _verdict(compared: Comparison, tolerance: float) -> str:
    if compared.regressed(tolerance):
        return "[red]slower[/red]"
    return "[green]faster[/green]" if compared.improved(tolerance) else "no difference shown"


def _console() -> Console:
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console
