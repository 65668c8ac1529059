"""Looks at the farm's processes while a load test runs: memory, descriptors, CPU, restarts."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from corral.farmstate import FarmState
from corral.status import memory_mib

INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """A part at a moment: `at` in seconds of the run, CPU time of its processes so far in seconds."""

    at: float
    memory_mib: int
    descriptors: int
    cpu_s: float
    restarts: int


@dataclass
class Watched:
    """What was seen of each part, by its name."""

    looks: dict[str, list[Look]] = field(default_factory=dict)

    def after(self, name: str, share: float) -> Look:
        """Return the first look at a part after this share of the run; the caller asks for known names only."""
        looks = self.looks[name]
        moment = looks[0].at + share * (looks[-1].at - looks[0].at)
        return next(look for look in looks if look.at >= moment)

    def last(self, name: str) -> Look:
        """Return the last look at a part."""
        return self.looks[name][-1]

    def cores(self, name: str) -> float:
        """Return how many cores it kept busy; what a process used that was replaced meanwhile is missing."""
        first, last = self.looks[name][0], self.looks[name][-1]
        return max(0.0, last.cpu_s - first.cpu_s) / max(last.at - first.at, 1e-9)


def look(state: FarmState, at: float) -> dict[str, Look]:
    """Return every part that runs, as it is now."""
    found = {}
    for part in state.services():
        memory = memory_mib(part.pid)
        if part.pid is None or memory is None:
            continue
        try:
            process = psutil.Process(part.pid)
            family = [process, *process.children(recursive=True)]
            descriptors = sum(each.num_fds() for each in family)
            cpu = sum(sum(each.cpu_times()[:2]) for each in family)
        except psutil.Error:
            continue  # it ended while we looked
        found[part.name] = Look(at, memory, descriptors, cpu, part.restarts)
    return found


@contextmanager
def watching(parts: Callable[[], FarmState | None], interval_s: float = INTERVAL_S) -> Iterator[Watched]:
    """Look every `interval_s` seconds inside the block, and once at its end; sees nothing where `parts` gives None."""
    watched, began, ended = Watched(), time.monotonic(), threading.Event()

    def note() -> None:
        state = parts()
        for name, seen in look(state, time.monotonic() - began).items() if state else ():
            watched.looks.setdefault(name, []).append(seen)

    def go_on() -> None:
        while not ended.wait(interval_s):
            note()

    note()
    thread = threading.Thread(target=go_on, name="watch", daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()
        note()
