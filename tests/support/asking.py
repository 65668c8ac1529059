"""Clients that ask a gate without pause, and what each of them waits for."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from support.two_workers import TwoWorkers
from support.waiting import wait_until

PAUSE_S = 0.05
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Asked:
    """One request: `failed` is empty if it was answered whole, with status 200."""

    began: float
    took_s: float
    failed: str


class Asking:
    """Asks within its `with`: clients with one request after the other, and readers of streams without end.

    Attributes:
        asked: the requests that are over.
        longest_gap_s: the longest time that a stream brought nothing.
        streams_failed: streams that ended, or did not begin.
    """

    def __init__(
        self, workers: TwoWorkers, body: dict[str, object], key: str, stream: dict[str, object], *, clients: int = 3
    ) -> None:
        self.asked: list[Asked] = []
        self.longest_gap_s = 0.0
        self.streams_failed: list[str] = []
        self._workers = workers
        self._stop = threading.Event()
        asking = [threading.Thread(target=self._ask, args=(body, key)) for _ in range(clients)]
        reading = [threading.Thread(target=self._read, args=(stream, key)) for _ in range(clients)]
        self._threads = [*asking, *reading]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S + 10)

    def wait_for_more(self, timeout_s: float, count: int) -> None:
        """Wait until so many requests that begin from now on are over."""
        now = time.monotonic()
        wait_until(lambda: sum(one.began > now for one in self.asked) >= count, timeout_s, f"{count} more requests")

    @property
    def longest_s(self) -> float:
        return max(one.took_s for one in self.asked)

    @property
    def failed(self) -> list[str]:
        return [one.failed for one in self.asked if one.failed] + self.streams_failed

    def _ask(self, body: dict[str, object], key: str) -> None:
        while not self._stop.wait(PAUSE_S):
            began = time.monotonic()
            try:
                answer = self._workers.ask(body, key, TIMEOUT_S)
                failed = "" if answer.status_code == 200 else f"{answer.status_code}: {answer.text}"
            except httpx.HTTPError as error:
                failed = repr(error)
            self.asked.append(Asked(began, time.monotonic() - began, failed))

    def _read(self, body: dict[str, object], key: str) -> None:
        try:
            with self._workers.stream(body, key, TIMEOUT_S) as answer:
                last = time.monotonic()
                for _ in answer.iter_raw():
                    now = time.monotonic()
                    self.longest_gap_s = max(self.longest_gap_s, now - last)
                    last = now
                    if self._stop.is_set():
                        return
                self.streams_failed.append(f"ended: {answer.status_code}")
        except httpx.HTTPError as error:
            self.streams_failed.append(repr(error))
