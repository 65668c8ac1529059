"""Whether a llama-server that starts still works on it: one that loads a model computes, reads and faults pages in.

How long loading may take nobody knows beforehand: seconds from memory, many minutes from a slow disk. So it is not
timed; what ends it is that nothing happens.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# It is asked for its health ten times a second, and answering that takes some time too.
_LEAST_SHARE = 0.02
_TICKS_PER_S: int = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Work:
    """What a process has done so far: CPU time in s, pages read from disk."""

    cpu_s: float
    faults: int


def read_work(pid: int) -> Work | None:
    """Return what `pid` has done (proc(5), `stat`); None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Work(cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S, faults=int(fields[9]))


class LoadWatch:
    """Watches one start."""

    def __init__(self, idle_s: float, read: Callable[[int], Work | None] = read_work) -> None:
        self._idle_s = idle_s
        self._read = read
        self._generation = 0
        self._since = 0.0
        self._work: Work | None = None

    def is_stuck(self, generation: int, pid: int, now: float) -> bool:
        """Say whether the start of `generation` did next to nothing for `idle_s`; to be called again and again."""
        if generation != self._generation or self._work is None:
            self._generation, self._since, self._work = generation, now, self._read(pid)
            return False
        if now - self._since < self._idle_s:
            return False
        work, before, waited_s = self._read(pid), self._work, now - self._since
        self._since, self._work = now, work
        return work is not None and work.faults == before.faults and work.cpu_s - before.cpu_s < _LEAST_SHARE * waited_s
