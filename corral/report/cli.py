"""`corral report`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from corral import farmstate
from corral.errors import CorralError
from corral.farm import FarmFile, load_farm
from corral.options import DEFAULT_STATE, FileOption, StateOption, farm_file, state_dir
from corral.paths import StateDir
from corral.render.prometheus import at, reached
from corral.report import drawing
from corral.report.contents import PLOTS, TABLES
from corral.report.page import page
from corral.report.prometheus import Period, Prometheus
from corral.report.units import span_s

out = Console()


def report(
    since: Annotated[str, typer.Option(metavar="SPAN", help="How far back: 90m, 24h, 7d, 4w.")] = "24h",
    to: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("corral-report.html"),
    prometheus: Annotated[str | None, typer.Option(metavar="URL", help="Prometheus, if not the farm's own.")] = None,
    state: StateOption = DEFAULT_STATE,
    file: FileOption = None,
) -> None:
    """Write a page with tables and plots: requests, first tokens, speeds, faults, energy, spend. From Prometheus.

    The page holds all that it shows, so it can be mailed or printed. What has no data says why.

    [bold]Examples[/bold]

      corral report

      corral report --since 7d --out week.html

      corral report --prometheus http://192.168.1.10:9090
    """
    seconds = span_s(since)
    drawing.check()
    if not to.parent.is_dir():
        raise CorralError(f"there is no folder {to.parent}", "make it, or name another file with --out", exit_code=2)
    farm = load_farm(farm_file(file)).value
    url = prometheus or _prometheus_of(farm, state_dir(state))
    now = time.time()
    with Prometheus(url) as asked:
        found = page(farm.name, Period(now - seconds, now), asked, TABLES, PLOTS)
    to.write_text(found.html, encoding="utf-8")
    size_kib = len(found.html.encode()) // 1024
    out.print(f"{to} is written, {size_kib} KiB; open it in a browser", highlight=False, soft_wrap=True)
    if found.empty:
        out.print(f"without data: {', '.join(found.empty)}", style="dim", highlight=False, soft_wrap=True)


def _prometheus_of(farm: FarmFile, state: StateDir) -> str:
    running = farmstate.read(state.state_file)
    if running is not None and farmstate.keeper(running) is not None:
        known = {part.name: part.port for part in running.parts}
        if "prometheus" in known:
            return f"http://127.0.0.1:{known['prometheus']}"
    if farm.monitoring is None:
        raise CorralError(
            "the farm file has no monitoring:, so there is no Prometheus to ask",
            "add monitoring: {} and start it (make monitoring), or name one with --prometheus http://HOST:PORT",
        )
    return f"http://{at(reached(farm.monitoring.listen), farm.monitoring.prometheus_port)}"
