"""A document that is followed: the commands in its code blocks, run one after the other as a reader would."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "--- begin", "--- end"


@dataclass(frozen=True)
class Step:
    """One command of the document, and what came of it."""

    line: str
    code: int
    output: str


def commands(document: Path, *headings: str) -> list[str]:
    """Return the lines of the `sh` blocks under these headings, in the document's order.

    A heading is named by its beginning. AssertionError where one has no block: the document was changed.
    """
    found: list[str] = []
    for heading in headings:
        lines = list(_under(document.read_text(), heading))
        assert lines, f"{document.name} has no commands under {heading}"
        found += lines
    return found


def _under(text: str, wanted: str) -> Iterator[str]:
    heading, inside = "", False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = line == "```sh"
        elif inside and heading.startswith(wanted):
            assert not line.endswith("\\"), f"a command of one line is wanted: {line}"
            yield line
        elif line.startswith("#"):
            heading = line.lstrip("# ")


def script(lines: Sequence[str], folder: str, instead: Mapping[str, str], *, state: str) -> str:
    """Return a bash script that runs each line in one shell, whatever became of the one before, and says its exit code.

    Args:
        lines: of the document.
        folder: where a reader begins. One who comes back goes on where, and with what, the last script ended.
        instead: words of the document and what a reader puts in their place.
        state: the file that keeps where and with what the script ended.
    """
    parts = [f"exec 2>&1; cd {shlex.quote(folder)}; if [ -f {state} ]; then . {state}; fi"]
    for number, line in enumerate(lines):
        for words, put in instead.items():
            line = line.replace(words, put)
        parts += [f'printf "\\n%s\\n" "{BEGIN} {number}"', line, f'printf "\\n%s %d\\n" "{END} {number}" $?']
    parts.append(f'{{ export -p; printf "cd %q\\n" "$PWD"; }} >{state}')
    return "\n".join(parts)


def read(lines: Sequence[str], said: str) -> list[Step]:
    """Return what came of each line, from what the script printed; a line that never ended has exit code -1."""
    steps = []
    for number, line in enumerate(lines):
        _, begun, rest = said.partition(f"\n{BEGIN} {number}\n")
        output, ended, after = rest.partition(f"\n{END} {number} ")
        code = int(re.match(r"\d+", after)[0]) if ended else -1  # type: ignore[index]
        steps.append(Step(line, code, output if begun else ""))
    return steps
