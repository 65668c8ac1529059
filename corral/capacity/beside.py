"""What is seen beside a trial: how full the servers are, and which process takes the CPU."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from statistics import fmean

import httpx
import psutil

from corral.farmstate import FarmState
from corral.loadtest.watch import Look, look
from corral.render.k6 import ServerTarget

INTERVAL_S = 0.5
ASK_TIMEOUT_S = 5.0
BUSY, QUEUED, CORES, MACHINE = "busy:", "queued:", "cores:", "machine"
"""What a load's name begins with: the share of a server's slots at work, requests in its queue, cores that a process
kept busy; and the share of this machine's CPU that was taken, by whomever."""


class Servers:
    """Asks gpu-servers how full they are; needs their key."""

    def __init__(self, servers: list[ServerTarget], key: str) -> None:
        self._servers = servers
        self._http = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"}, timeout=ASK_TIMEOUT_S, trust_env=False
        )

    async def full(self) -> dict[str, float]:
        """Return the share of busy slots and the queue of each server that answers."""
        asked = await asyncio.gather(*(self._status(server) for server in self._servers))
        return {name: value for each in asked for name, value in each.items()}

    async def served(self) -> float:
        """Return how many requests all of them have answered since they started."""
        return sum(await asyncio.gather(*(self._served(server) for server in self._servers)))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _status(self, server: ServerTarget) -> dict[str, float]:
        try:
            status = (await self._http.get(f"{server['url']}/status")).json()
            busy, queued = status["busy"] / status["slots"], float(status["queued"])
        except (httpx.HTTPError, ValueError, KeyError):
            return {}
        return {BUSY + server["name"]: busy, QUEUED + server["name"]: queued}

    async def _served(self, server: ServerTarget) -> float:
        try:
            lines = (await self._http.get(f"{server['url']}/metrics")).text.splitlines()
        except httpx.HTTPError:
            return 0.0
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("gpu_server_requests_total{"))


Parts = Callable[[], FarmState | None]


@asynccontextmanager
async def beside(servers: Servers | None, parts: Parts) -> AsyncIterator[dict[str, float]]:
    """Look on inside the block; the dictionary that is given is filled at its end, with means over the time."""
    found: dict[str, float] = {}
    seen: list[Mapping[str, float]] = []
    began, before = time.monotonic(), _cpu(parts)
    psutil.cpu_percent()  # counts from here to the next call

    async def go_on() -> None:
        while servers is not None:
            seen.append(await servers.full())
            await asyncio.sleep(INTERVAL_S)

    task = asyncio.create_task(go_on())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        filled = seen[len(seen) // 4 :]  # the queue that a rate makes is not there at once
        names = {name for each in filled for name in each}
        found.update({name: fmean(each.get(name, 0.0) for each in filled) for name in names})
        if before:
            passed = max(time.monotonic() - began, 1e-9)
            after = _cpu(parts)
            found.update(
                {
                    CORES + name: (after[name].cpu_s - one.cpu_s) / passed
                    for name, one in before.items()
                    if name in after
                }
            )
            found[MACHINE] = psutil.cpu_percent() / 100


def _cpu(parts: Parts) -> dict[str, Look]:
    state = parts()
    return look(state, 0.0) if state else {}
