"""`corral status`: what runs, where, since when and how large, looked at afresh."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from corral import farmstate
from corral.farmstate import FarmState
from corral.paths import StateDir
from corral.progress import coloured

if TYPE_CHECKING:
    from corral.top.view import ServerRow

_OF_A_SERVER = ("name", "model", "state", "busy", "slots", "queued", "restarts", "gpus")
PIPED_WIDTH = 160  # columns, where no terminal says how wide it is
NOT_RUNNING = 3
"""Exit code of `corral status` when the farm does not run, as of an init script's `status` (LSB)."""


def current(state: StateDir) -> FarmState | None:
    """Return the farm's state, with what no longer lives marked as stopped."""
    farm = farmstate.read(state.state_file)
    if farm is None:
        return None
    if farmstate.keeper(farm) is None:
        if farm.phase != "failed":
            farm.phase = "stopped"
        for part in farm.services():
            part.state, part.pid = "failed" if part.state == "failed" else "stopped", None
    return farm


def as_json(farm: FarmState | None, servers: Sequence["ServerRow"] = ()) -> dict[str, Any]:
    """Return what `corral status --json` prints: `{"endpoint", "phase", "models", "parts": [...], "servers": [...]}`.

    A part has `name`, `state`, `detail`, `address`, `port`, `pid`, `restarts`, `since` (seconds since the epoch) and
    `memory_mib` (resident, its process and all below it; null if it does not run). A server has, as it says itself,
    `name`, `model`, `state`, `busy`, `slots`, `queued`, `restarts` (llama-servers lost) and `gpus`; where it does not
    answer, `state` says why and `slots` is null. `servers` is empty unless the farm runs.
    """
    if farm is None:
        return {"endpoint": None, "phase": "stopped", "models": [], "parts": [], "servers": []}
    parts = []
    for part in farm.services():
        fields = asdict(part)
        del fields["kind"], fields["pid_created"]
        parts.append({**fields, "memory_mib": memory_mib(part.pid)})
    rows = [{name: getattr(row, name) for name in _OF_A_SERVER} for row in servers]
    return {
        "endpoint": farm.endpoint, "phase": farm.phase, "models": farm.models, "parts": parts, "servers": rows,
    }  # fmt: skip


def memory_mib(pid: int | None) -> int | None:
    """Return the memory of a process and all below it, in MiB; None if it is gone.

    Shared pages count once a process that maps them (PSS) where the kernel lets us read that, else in full (RSS).
    """
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        return sum(_memory(each) for each in (process, *process.children(recursive=True))) // (1024 * 1024)
    except psutil.NoSuchProcess:
        return None


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def print_table(console: Console, farm: FarmState | None) -> None:
    """Print the parts as a table."""
    if farm is not None and farm.failure:
        console.print(
            f"The last start failed: {escape(farm.failure.part)}: {escape(farm.failure.cause)}", soft_wrap=True
        )
    if farm is None or farm.phase == "stopped":
        console.print("The farm is not running. Start it: make up", highlight=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("PART", "STATE", "ADDRESS", "PID", "MEMORY", "SINCE", ""):
        justify: JustifyMethod = "right" if heading in ("PID", "MEMORY") else "left"
        # in a narrow terminal a state or a port that is cut off would be of no use: the last two give way
        table.add_column(heading, justify=justify, no_wrap=heading not in ("SINCE", ""))
    for part in farm.services():
        memory = memory_mib(part.pid)
        note = part.detail + (f" (restarted {part.restarts}x)" if part.restarts else "")
        table.add_row(
            part.name,
            coloured(part.state),
            part.address,
            str(part.pid or "-"),
            f"{memory} MiB" if memory is not None else "-",
            since(part.since),
            escape(note.strip()),
        )
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table)
    console.print(f"\nendpoint  {farm.endpoint}", highlight=False)


def since(moment: float) -> str:
    """Return a time as a person says it: the clock, and how long ago."""
    if not moment:
        return "-"
    seconds = max(0, int(time.time() - moment))
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    ago = (
        f"{days} d {hours} h" if days else f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
    )
    return f"{time.strftime('%H:%M:%S', time.localtime(moment))} ({ago})"
