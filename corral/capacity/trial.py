"""Sends requests at a rate for a time, whether earlier ones were answered or not, and notes what became of each."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from corral.capacity.arrivals import arrivals
from corral.capacity.beside import Parts, Servers, beside
from corral.capacity.verdict import LATE_SHARE, Answer, Trial, trial_of
from corral.capacity.workload import Request, request_for
from corral.loadtest.workload import Workload
from corral.render.k6 import ModelTarget

LOOK_S = 0.1
SETTLE_S = 120.0
"""Longest wait, before a trial, for what the last one left."""
PATIENCE = 6.0
"""After the last request, answers are waited for so many times the objective; what is missing then has failed."""
CONNECT_TIMEOUT_S = 10.0


@dataclass
class _Sent:
    """A request under way. `began` is by the monotonic clock."""

    at_s: float
    began: float
    first_s: float | None = None


@dataclass
class _Book:
    """What is known of a trial so far."""

    waiting: list[_Sent] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def late(self, limit_s: float) -> int:
        """Return how many began late, or have been waiting too long already."""
        now = time.monotonic()
        begun = sum(
            answer.first_s is not None and answer.first_s > limit_s for answer in self.answers if answer.at_s >= 0
        )
        return begun + sum(
            (sent.first_s if sent.first_s is not None else now - sent.began) > limit_s
            for sent in self.waiting
            if sent.at_s >= 0
        )

    def failed(self) -> int:
        """Return how many were not answered."""
        return sum(answer.whole_s is None for answer in self.answers if answer.at_s >= 0)


class Client:
    """Asks one model through the gate."""

    def __init__(
        self, gate: str, key: str, model: ModelTarget, workload: Workload, servers: Servers | None, parts: Parts
    ) -> None:
        self.model = model
        self._workload = workload
        self._servers, self._parts = servers, parts
        self._http = httpx.AsyncClient(
            base_url=gate,
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def unloaded(self, count: int, chance: random.Random) -> list[Answer]:
        """Send requests one after another; the first, which may find caches cold, is left out."""
        book = _Book()
        for _ in range(count + 1):
            await self._ask(0.0, request_for(self.model, self._workload, chance), book)
        return book.answers[1:]

    async def trial(
        self, rate_rpm: float, seconds: float, chance: random.Random, say: Callable[[int, int], None]
    ) -> Trial:
        """Send requests at a rate; `say` is told how many were sent and how many answered.

        It ends early once an objective is broken for certain.
        """
        await self._settle(chance)
        moments = arrivals(rate_rpm / 60, seconds, chance)
        requests = [request_for(self.model, self._workload, chance) for _ in moments]
        limit_s = self.model["objectives"]["ttft_p95_s"]
        book = _Book()
        async with beside(self._servers, self._parts) as loads:
            cut_short = await self._send(moments, requests, seconds, book, say)
        return trial_of(rate_rpm, seconds, book.answers, limit_s, cut_short=cut_short, loads=loads)

    async def _settle(self, chance: random.Random) -> None:
        """Wait until the servers are idle: a batch that was given up is computed to its end all the same."""
        if self._servers is None:
            await self._ask(0.0, request_for(self.model, self._workload, chance), _Book())  # comes after what waits
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while any((await self._servers.full()).values()):  # noqa: ASYNC110  # a server tells nobody
                    await asyncio.sleep(LOOK_S)

    async def _send(
        self,
        moments: Sequence[float],
        requests: Sequence[Request],
        seconds: float,
        book: _Book,
        say: Callable[[int, int], None],
    ) -> bool:
        """Send all; return whether it was ended early."""
        began = time.monotonic() - min(0.0, moments[0])  # the moment 0; warming up comes before it
        objectives = self.model["objectives"]
        deadline = began + seconds + PATIENCE * objectives["ttft_p95_s"] + (objectives["duration_p95_s"] or 0)
        judged = sum(moment >= 0 for moment in moments)
        most_late, most_failed = LATE_SHARE * judged, objectives["error_share"] * judged
        tasks: list[asyncio.Task[None]] = []
        cut_short = False
        try:
            while len(tasks) < len(moments) or book.waiting:
                now = time.monotonic()
                while len(tasks) < len(moments) and moments[len(tasks)] <= now - began:
                    number = len(tasks)
                    tasks.append(asyncio.create_task(self._ask(moments[number], requests[number], book)))
                say(len(tasks), len(book.answers))
                if book.late(objectives["ttft_p95_s"]) > most_late or book.failed() > most_failed:
                    cut_short = True
                    break
                if now > deadline:
                    break
                following = moments[len(tasks)] - (now - began) if len(tasks) < len(moments) else LOOK_S
                await asyncio.sleep(max(0.0, min(LOOK_S, following)))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not cut_short:
            book.answers += [Answer(sent.at_s, sent.first_s) for sent in book.waiting]
        return cut_short

    async def _ask(self, at_s: float, request: Request, book: _Book) -> None:
        sent = _Sent(at_s, time.monotonic())
        book.waiting.append(sent)
        answer = Answer(at_s)
        try:
            answer = await self._answer(sent, request)
        except httpx.HTTPError:
            answer = Answer(at_s, sent.first_s)
        book.waiting.remove(sent)
        book.answers.append(answer)

    async def _answer(self, sent: _Sent, request: Request) -> Answer:
        async with self._http.stream("POST", request.path, json=request.body) as response:
            server = response.headers.get("x-corral-server", "")
            if response.status_code != httpx.codes.OK:
                return Answer(sent.at_s, refused=response.status_code == httpx.codes.TOO_MANY_REQUESTS, server=server)
            whole = True
            if request.streamed:
                whole = await _read_events(response, sent)
            else:
                await response.aread()
            took = time.monotonic() - sent.began
            if sent.first_s is None:
                sent.first_s = took
            return Answer(sent.at_s, sent.first_s, took if whole else None, server=server)


async def _read_events(response: httpx.Response, sent: _Sent) -> bool:
    """Note when the first piece of text came; return whether the stream came to its end."""
    done = broke = False
    async for line in response.aiter_lines():
        if sent.first_s is None and _has_text(line):
            sent.first_s = time.monotonic() - sent.began
        done = done or line == "data: [DONE]"
        broke = broke or '"error":' in line
    return done and not broke


def _has_text(line: str) -> bool:
    _, found, rest = line.partition('"content":')
    return bool(found) and rest.lstrip().startswith('"') and not rest.lstrip().startswith('""')


def slot_time_s(answers: Sequence[Answer]) -> float | None:
    """Return the mean time that an unloaded request takes; None if none was answered."""
    times = [answer.whole_s for answer in answers if answer.whole_s is not None]
    return sum(times) / len(times) if times else None
