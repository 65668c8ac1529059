"""Commands of a machine that a test makes up: each writes down how it was called, and says what it is told to."""

import os
import stat
from pathlib import Path


class Commands:
    """A folder of commands, and the calls of them.

    Args:
        folder: where they lie; goes before the machine's own in `path`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / ".calls"
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> str:
        """The value of PATH."""
        return f"{self._folder}:{os.defpath}:/usr/sbin:/sbin"

    @property
    def calls(self) -> list[str]:
        """Each call, `name arguments`, in their order."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def called(self, start: str) -> list[str]:
        """Return the calls that begin like this."""
        return [call for call in self.calls if call.startswith(start)]

    def forget(self) -> None:
        """Forget the calls made so far."""
        self._log.unlink(missing_ok=True)

    def add(self, name: str, script: str = "") -> None:
        """Add a command, or replace it: a shell script, given its arguments."""
        command = self._folder / name
        command.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >>"{self._log}"\n{script}\n')
        command.chmod(command.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

    def remove(self, name: str) -> None:
        """Take a command away."""
        (self._folder / name).unlink()
