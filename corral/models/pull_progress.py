"""Shows downloads as they go: bars on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from corral.models.disk import megabytes

_LINE_EACH_S = 10.0


class Bars:
    """For a terminal: a bar a model."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def say(self, name: str, line: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(escape(_named(name, line)), highlight=False)

    def advance(self, name: str, done: int, total: int | None) -> None:
        """Move a model's bar."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(escape(name), total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)

    def end(self, name: str) -> None:
        """Take a model's bar away."""
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


class Lines:
    """For a pipe or a log: a line at the start and every ten seconds or so."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said_at: dict[str, float] = {}

    def say(self, name: str, line: str) -> None:
        """Print a line."""
        self._console.print(escape(_named(name, line)), highlight=False, soft_wrap=True)

    def advance(self, name: str, done: int, total: int | None) -> None:
        """Print how far a model is, if that was not said just now."""
        now = time.monotonic()
        if now - self._said_at.get(name, -_LINE_EACH_S) < _LINE_EACH_S:
            return
        self._said_at[name] = now
        self.say(
            name, f"{megabytes(done)} of {megabytes(total)}, {100 * done // total} %" if total else megabytes(done)
        )

    def end(self, name: str) -> None:
        """Nothing to take away."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""


def _named(name: str, line: str) -> str:
    return line if line.startswith(f"{name}:") else f"{name}: {line}"
