"""Shows a start as it goes: a live table on a terminal, a line a change elsewhere."""

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from corral.farmstate import FarmState, PartState

COLOURS = {"ready": "green", "done": "green", "starting": "yellow", "waiting": "dim", "failed": "red", "stopped": "dim"}


class Progress(Protocol):
    """What `bring_up` tells; a context manager around the time of the start."""

    def note(self, line: str) -> None:
        """Say one line that stays."""

    def show(self, farm: FarmState) -> None:
        """Show the farm as it is now."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def coloured(state: str) -> str:
    """Return a part's state with its colour, as Rich markup."""
    colour = COLOURS.get(state, "red")
    return f"[{colour}]{state}[/{colour}]"


class LiveTable:
    """For a terminal: one table, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=10)

    def note(self, line: str) -> None:
        """Print a line above the table."""
        self._console.print(f"[yellow]note[/yellow]  {escape(line)}", highlight=False)

    def show(self, farm: FarmState) -> None:
        """Redraw the table."""
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for part in farm.parts:
            table.add_row(part.name, coloured(part.state), _seconds(part), escape(part.detail or part.address))
        self._live.update(table)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


class Lines:
    """For a pipe or a log: a line for each change of a part's state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._last: dict[str, str] = {}

    def note(self, line: str) -> None:
        """Print a line."""
        self._console.print(f"note: {escape(line)}", highlight=False, soft_wrap=True)

    def show(self, farm: FarmState) -> None:
        """Print what is new."""
        for part in farm.parts:
            if self._last.get(part.name) == part.state:
                continue
            self._last[part.name] = part.state
            said = part.detail if part.state in ("waiting", "failed") else part.address
            elapsed = time.monotonic() - self._began
            self._console.print(
                escape(f"{elapsed:6.1f} s  {part.name:10} {part.state:9} {said}".rstrip()),
                highlight=False,
                soft_wrap=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""


def for_console(console: Console) -> Progress:
    """Return the kind of progress that suits the console."""
    return LiveTable(console) if console.is_terminal else Lines(console)


def _seconds(part: PartState) -> str:
    return f"{time.time() - part.since:.0f} s" if part.state == "starting" else ""
