"""The report, for people and as data."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from corral.capacity.finding import Finding
from corral.capacity.verdict import Trial, broken
from corral.render.k6 import ModelTarget


def trial_line(trial: Trial, model: ModelTarget) -> str:
    """Return one trial in a line."""
    verdict = broken(trial, model["objectives"], model["slots"])
    p95 = f"{trial.ttft_p95_s:.2f} s" if trial.ttft_p95_s is not None else "none"
    said = f"[red]broke[/red]: {verdict}" if verdict else "[green]held[/green]"
    early = ", ended early" if trial.cut_short else ""
    return (
        f"{model['name']}: {trial.rate_rpm:.1f} a minute, {trial.requests} requests judged in {trial.seconds:.0f} s"
        f"{early}: TTFT p95 {p95}, {trial.errors} failed: {said}"
    )


def show(console: Console, found: Sequence[Finding], headroom: float) -> None:
    """Print what was found, and what follows."""
    table = Table(
        "model", "held", "broke", "knee", "safe rpm", "safe rpm of each server", "rpm", "parallel", "max_queue"
    )
    for each in found:
        shares = ", ".join(f"{name} {rate:.1f}" for name, rate in each.by_server.items())
        knee = (each.held_rpm * each.broke_rpm) ** 0.5 if each.held_rpm and each.broke_rpm else None
        suggested = ("-" if value is None else str(value) for value in (each.rpm, each.parallel, each.max_queue))
        figures = (_number(value) for value in (each.held_rpm, each.broke_rpm, knee, each.safe_rpm))
        table.add_row(each.model, *figures, shares or "-", *suggested)
    console.print(table)
    console.print(
        f"Safe is {headroom:.0%} below the knee. rpm, parallel and max_queue are of each server, as in corral.yaml.",
        highlight=False,
    )
    for each in found:
        if each.held_rpm is None and each.broke_rpm is not None:
            console.print(f"{each.model}: no rate held; its objectives are beyond this farm", highlight=False)
        if each.reason:
            console.print(f"{each.model}: first broken: {each.reason}", highlight=False)
        if each.bottleneck:
            console.print(f"{each.model}: bottleneck: {each.bottleneck}", highlight=False)
        if not each.complete:
            console.print(f"{each.model}: not complete; go on with --resume", highlight=False)


def as_data(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return what was found as plain data."""
    return [{**asdict(each), "complete": each.complete} for each in found]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
