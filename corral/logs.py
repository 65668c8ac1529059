"""`corral logs`: the ends of the parts' logs, and what is added to them."""

import time
from collections import deque
from pathlib import Path

from rich.console import Console
from rich.text import Text

from corral.errors import CorralError
from corral.paths import StateDir
from corral.request_trail import Logs, follow

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def names(state: StateDir) -> list[str]:
    """Return the parts that have a log, sorted."""
    return sorted(file.stem for file in state.logs.glob("*.log"))


def show(state: StateDir, console: Console, part: str | None, lines: int, *, follow: bool) -> None:
    """Print the last lines of one part's log or of all; go on until Ctrl-C if `follow`.

    Raises:
        CorralError: there is no such part, or no log at all.
    """
    known = names(state)
    if not known:
        raise CorralError("there are no logs yet", "start the farm: make up")
    if part is not None and part not in known:
        raise CorralError(f"no part is named {part}", f"one of: {', '.join(known)}", exit_code=2)
    chosen = [part] if part else known
    ends = {}
    for name in chosen:
        file = state.log_file(name)
        ends[name] = file.stat().st_size
        for line in _tail(file, lines):
            _print(console, name, known, line, named=part is None)
    while follow:
        for name in chosen:
            ends[name] = _print_new(state.log_file(name), ends[name], console, name, known, named=part is None)
        time.sleep(0.2)


def show_request(logs: Logs, console: Console, request_id: str) -> None:
    """Print what the logs have of one request, from the gate to llama-server.

    Raises:
        CorralError: the id is none, or no log has it.
    """
    trail = follow(logs, request_id)
    known = sorted({line.part for line in trail.lines})
    for line in trail.lines:
        _print(console, line.part, known, line.text, named=True)
    for part in trail.unsure:
        told = f"{part}: its llama-server worked on several requests then; which lines are this one's cannot be told"
        console.print(told, style="dim", highlight=False)


def _tail(file: Path, lines: int) -> list[str]:
    with file.open(encoding="utf-8", errors="replace") as text:
        return [line.rstrip("\n") for line in deque(text, maxlen=lines)]


def _print_new(file: Path, start: int, console: Console, name: str, known: list[str], *, named: bool) -> int:
    size = file.stat().st_size
    if size < start:  # it was rotated
        start = 0
    if size == start:
        return size
    with file.open("rb") as log:
        log.seek(start)
        added = log.read(size - start)
    for line in added.decode(errors="replace").splitlines():
        _print(console, name, known, line, named=named)
    return size


def _print(console: Console, name: str, known: list[str], line: str, *, named: bool) -> None:
    text = Text()
    if named:
        text.append(f"{name:10} ", style=COLOURS[known.index(name) % len(COLOURS)])
    text.append(line)
    console.print(text, soft_wrap=True)
