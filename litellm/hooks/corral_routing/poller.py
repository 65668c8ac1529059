"""Asks silent servers for their `/status`: one poller a process, each question with a deadline.

A server that answers requests tells its load with each answer, and is asked only for what the headers leave out. The
times add up to less than 2 s: a server that stops answering is out after a poll that was due, its deadline, and the
deadline of the one sent right after it.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from time import monotonic

import aiohttp

from corral_routing.reports import ReportError, status_of
from corral_routing.router import Router
from corral_routing.servers import Server, Standing

SILENT_S = 0.6
"""A server not heard of for so long is asked."""
TALKING_S = 1.5
"""So often is one asked that answers requests."""
FOREIGN_S = 30.0
DEADLINE_S = 0.5
JITTER = 0.2
TICK_S = 0.05
PLACES_S = 0.5
"""How old the list of servers may be: it is made of LiteLLM's whole configuration, which seldom changes."""
OWN_LAG_S = 0.1
"""A deadline during which this process itself was late by so much says nothing of the server."""
MOST_BYTES = 64 * 1024

log = logging.getLogger("corral.routing")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is asked.

    Args:
        name: the server's in the router.
        url: of its `/status`.
        key: bearer token; empty: none is sent.
    """

    name: str
    url: str
    key: str


class Poller:
    """Polls all servers that `places` gives at the time, until cancelled."""

    def __init__(
        self, router: Router, places: Callable[[], Iterable[Place]], ready: Callable[[str], None], random: Random
    ) -> None:
        """Take what to poll.

        Args:
            router: is told what came.
            places: gives the servers to ask; called again and again, as they may change.
            ready: called with the name of a server that just said it is ready and may have work.
            random: spreads the polls.
        """
        self._router = router
        self._places = places
        self._ready = ready
        self._random = random
        self._known: dict[str, Place] = {}
        self._known_until = 0.0
        self._due: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._complained: dict[str, str] = {}
        self._lagged_at = 0.0

    async def run(self) -> None:
        """Poll."""
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            try:
                while True:
                    self._start_due(session)
                    slept = monotonic()
                    await asyncio.sleep(TICK_S)
                    if (woke := monotonic()) - slept > TICK_S + OWN_LAG_S:
                        self._lagged_at = woke
            finally:
                for task in self._asking.values():
                    task.cancel()
                await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _start_due(self, session: aiohttp.ClientSession) -> None:
        now = monotonic()
        if now >= self._known_until:
            self._known_until = now + PLACES_S
            before, self._known = self._known, {place.name: place for place in self._places()}
            for name in [name for name in self._due if self._known.get(name) != before.get(name)]:
                del self._due[name]  # gone, or to be asked elsewhere or with another key: at once
        for name, place in self._known.items():
            if name not in self._asking and now >= self._due_at(name):
                task = asyncio.create_task(self._ask(session, place), name=f"status of {name}")
                self._asking[name] = task
                task.add_done_callback(lambda _task, name=name: self._asking.pop(name, None))  # type: ignore[misc]

    def _due_at(self, name: str) -> float:
        """Return when to ask: later where answers told the load meanwhile."""
        due = self._due.get(name, 0.0)
        server = self._router.server(name)
        if server.standing(monotonic()) is Standing.READY:
            due = max(due, min(server.load_at + SILENT_S, server.status_at + TALKING_S))
        return due

    async def _ask(self, session: aiohttp.ClientSession, place: Place) -> None:
        server = self._router.server(place.name)
        asked = monotonic()
        wait_s = SILENT_S
        try:
            wait_s = await self._take(session, place, server, asked)
        except TimeoutError:
            wait_s = 0.0
            if self._lagged_at < asked and monotonic() - asked < DEADLINE_S + OWN_LAG_S:
                server.late("its /status does not come in time")
        except aiohttp.ClientConnectorError:
            server.unreachable("refuses connections", monotonic())
        except aiohttp.ClientError:
            server.late("its /status breaks off")
        except Exception as error:  # noqa: BLE001  # one server's answer must not end the polling of all
            self._complain(place.name, f"its /status could not be taken: {error!r}")
            server.garbled("its /status could not be taken", monotonic())
        finally:
            self._due[place.name] = monotonic() + wait_s * (1 + self._random.uniform(-JITTER, JITTER))

    async def _take(self, session: aiohttp.ClientSession, place: Place, server: Server, asked: float) -> float:
        """Ask and tell the router; return how long to wait before the next time."""
        headers = {"authorization": f"Bearer {place.key}"} if place.key else {}
        async with session.get(place.url, headers=headers, allow_redirects=False) as answer:
            body = await answer.content.read(MOST_BYTES) if answer.status == 200 else b""
            while answer.status == 200 and len(body) < MOST_BYTES and (more := await answer.content.read(MOST_BYTES)):
                body += more
        now = monotonic()
        if answer.status == 404:
            server.foreign(now)
            return FOREIGN_S
        if answer.status in (401, 403):
            self._complain(place.name, "its /status refuses the gate's key; is GPU_SERVER_KEY the server's API_KEY?")
            server.garbled("refuses the gate's key", now)
            return FOREIGN_S
        if answer.status != 200:
            server.late(f"its /status answers {answer.status}")
            return SILENT_S
        try:
            status = status_of(json.loads(body))
        except (ReportError, ValueError, RecursionError) as error:
            self._complain(place.name, f"its /status cannot be true: {error}")
            server.garbled("its /status cannot be true", now)
            return SILENT_S
        self._complained.pop(place.name, None)
        self._router.reported(place.name, status, asked, now)
        if server.standing(now) is Standing.READY:
            self._ready(place.name)
        return SILENT_S

    def _complain(self, name: str, what: str) -> None:
        """Log once, not with every poll."""
        if self._complained.get(name) != what:
            self._complained[name] = what
            log.warning("%s: %s", name, what)
