"""Steps that are done once for the same inputs, and remembered by a file beside what they made."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One part of an installation.

    Args:
        name: What is said aloud when it runs.
        stamp: The file that remembers it; it lies with the outputs, to be deleted with them.
        inputs: Whatever, when it changes, asks for the step again (from `digest`).
        outputs: Files that must still be as the step left them. A reinstalled package puts its own back.
        run: Does the work; raises where it cannot.
    """

    name: str
    stamp: Path
    inputs: str
    outputs: tuple[Path, ...]
    run: Callable[[], None]

    def is_done(self) -> bool:
        """Say whether nothing has changed since the step last ran to its end."""
        try:
            return self.stamp.read_text(encoding="ascii") == self._mark()
        except OSError:
            return False

    def do(self) -> None:
        """Run the step and remember it; an interruption leaves it to be run again."""
        self.stamp.unlink(missing_ok=True)
        self.run()
        self.stamp.write_text(self._mark(), encoding="ascii")

    def _mark(self) -> str:
        return digest(self.inputs, self.outputs)


def digest(text: str, files: Iterable[Path] = ()) -> str:
    """Return a digest of a text and of the contents of files; a missing file counts as such."""
    total = hashlib.sha256(text.encode())
    for file in files:
        content = hashlib.sha256(file.read_bytes()).digest() if file.exists() else b"missing"
        total.update(content)
    return total.hexdigest()
