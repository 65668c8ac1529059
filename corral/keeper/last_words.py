"""Why a process ended, by its log and its exit code."""

import re
from collections.abc import Sequence

_ERROR = re.compile(
    r"^(litellm-embedded|gpu-server|gpu_server\.embedded|error): |^[\w.]*(Error|Exception): ", re.IGNORECASE
)
_PREFIX = re.compile(r"^\d{4}-\d\d-\d\dT\S+ \S+ llama-server ")  # of what a gpu-server passes on


def telling_line(lines: Sequence[str]) -> str:
    """Return the line that most likely says why a process ended: the last that names an error, else the last."""
    said = [_PREFIX.sub("", line) for line in lines]
    named = [line for line in said if _ERROR.search(line)]
    return (named or said or [""])[-1]


def exit_words(code: int) -> str:
    """Return an exit code in words; below zero it is the signal that ended the process."""
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
