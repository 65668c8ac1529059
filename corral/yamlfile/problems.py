"""What is wrong with a YAML file: every problem of it at once, each with its place and its mend."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from corral.errors import CorralError

KeyPath = tuple[str | int, ...]
"""The keys and list indices (from 0) that lead from a file's root to a value."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file.

    Attributes:
        line: from 1; 0 when the problem has no place in the file, or none yet (see `at`).
        column: from 1, in characters.
        path: keys and indices of the value that is meant.
        what: what is wrong, without a full stop.
        mend: what to do about it; may be empty.
        on_key: the place is that of the key, not of its value.
        defined: (line, column) of the value itself, where `line` and `column` are those of an alias or a merge of it.
    """

    line: int
    column: int
    path: KeyPath
    what: str
    mend: str
    on_key: bool = False
    defined: tuple[int, int] | None = None

    @classmethod
    def at(cls, path: KeyPath, what: str, mend: str, *, on_key: bool = False) -> "Problem":
        """Return a problem that knows its key path only; the loader finds the line and column."""
        return cls(0, 0, path, what, mend, on_key=on_key)

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}: " if self.line else ""
        path = f"{dotted(self.path)}: " if self.path else ""
        defined = f" (the value stands at {self.defined[0]}:{self.defined[1]})" if self.defined else ""
        return f"{where}{path}{self.what}{defined}" + (f"; {self.mend}" if self.mend else "")


class YamlFileErrors(CorralError):  # noqa: N818  # it holds many of them
    """A file that cannot be used; its text has one line for each problem, `file:line:column: path: what; mend`.

    Args:
        name: the file's name as the user knows it.
        problems: at least one.
    """

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        first = self.problems[0]
        super().__init__(first.what, first.mend, exit_code=2)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return one line for each problem, in the order of the file."""
        name = printable(self.name)
        return [f"{name}:{problem}" if problem.line else f"{name}: {problem}" for problem in self.problems]


def dotted(path: KeyPath) -> str:
    """Return a path as it is written in messages: `models."llama-3.1".gpus[0]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _BARE_KEY.fullmatch(step) else f'"{one_line(step)}"')
    return text


def one_line(text: str) -> str:
    """Return text as it may stand in a message: on one line, nothing invisible, not too long."""
    if len(text) > _SHOWN_CHARACTERS:
        text = text[: _SHOWN_CHARACTERS - 3] + "..."
    return printable(text)


def printable(text: str) -> str:
    """Return text on one line, line ends and all that is invisible written as escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def ticked(text: str) -> str:
    """Return text between backticks, for a name or a value in a message."""
    return f"`{one_line(text)}`"


def listed(names: Iterable[str], *, last: str = "or", show: Callable[[str], str] = ticked) -> str:
    """Return names as a sentence has them: `a`, `b` or `c`."""
    shown = [show(name) for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}" if shown else "none"
