"""The farm files that ran: a numbered copy of each, so that an earlier one can be had again."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from corral.errors import CorralError
from corral.paths import StateDir, write_private

How = Literal["up", "apply", "rollback"]


@dataclass(frozen=True)
class Entry:
    """One farm file that ran. `at` is in seconds since the epoch, `file` where it came from."""

    number: int
    at: float
    how: How
    file: str
    summary: str


class History:
    """The entries of one farm, oldest first."""

    def __init__(self, state: StateDir) -> None:
        self._folder = state.history

    def entries(self) -> list[Entry]:
        """Return all entries; one that cannot be read is left out."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(Entry(**json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError, TypeError):
                continue
        return found

    def last_text(self) -> str | None:
        """Return the farm file that ran last, None before the first."""
        entries = self.entries()
        return self.text(entries[-1].number) if entries else None

    def path(self, number: int) -> Path:
        """Return where the copy of an entry lies."""
        return self._folder / f"{number:04}.yaml"

    def text(self, number: int) -> str:
        """Return the farm file of an entry.

        Raises:
            CorralError: there is no such entry.
        """
        try:
            return self.path(number).read_text(encoding="utf-8")
        except OSError:
            known = ", ".join(str(entry.number) for entry in self.entries()) or "none"
            raise CorralError(
                f"the history has no entry {number}", f"`corral history` lists them: {known}", exit_code=2
            ) from None

    def record(self, text: str, how: How, file: Path, summary: str) -> Entry | None:
        """Add an entry; None if the very same file is the last one."""
        if text == self.last_text():
            return None
        entries = self.entries()
        entry = Entry(entries[-1].number + 1 if entries else 1, time.time(), how, str(file), summary)
        write_private(self.path(entry.number), text)
        write_private(self._folder / f"{entry.number:04}.json", json.dumps(asdict(entry)))
        return entry
