"""What the servers and the gate say at one moment."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from corral.top.places import Places

ASK_S = 2.0
"""How long a server may take to answer; one that hangs holds up no other."""

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Metrics:
    """A page of metrics: value by name and labels."""

    values: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float | None:
        """Return the sum of a metric's series that have these labels; None if there is none."""
        wanted = frozenset(labels.items())
        found = [value for its, value in self.values.get(name, {}).items() if wanted <= its]
        return sum(found) if found else None

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return a metric's values summed up by one label."""
        sums: dict[str, float] = {}
        for labels, value in self.values.get(name, {}).items():
            key = dict(labels).get(label)
            if key is not None:
                sums[key] = sums.get(key, 0.0) + value
        return sums


@dataclass(frozen=True, slots=True)
class ServerSample:
    """What one gpu-server said; `error` says why it said nothing."""

    status: Mapping[str, Any] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What all said.

    Attributes:
        at: seconds, by a clock that is never set.
        servers: by name.
        gate: None if it could not be asked.
        gate_error: why not.
    """

    at: float
    servers: Mapping[str, ServerSample]
    gate: Metrics | None
    gate_error: str = ""


async def take(places: Places, web: httpx.AsyncClient) -> Sample:
    """Ask all at once."""
    at = time.monotonic()
    *answers, gate = await asyncio.gather(
        *(_server(web, url, places.server_key) for url in places.servers.values()), _gate(web, places)
    )
    servers = {name: one for name, one in zip(places.servers, answers, strict=True) if isinstance(one, ServerSample)}
    metrics, error = gate if isinstance(gate, tuple) else (None, "")
    return Sample(at, servers, metrics, error)


def client() -> httpx.AsyncClient:
    """Return what `take` asks with; no proxy of the web's is on the way."""
    return httpx.AsyncClient(timeout=httpx.Timeout(ASK_S, pool=None), trust_env=False)


async def _server(web: httpx.AsyncClient, url: str, key: str | None) -> ServerSample:
    try:
        page = await web.get(f"{url}/metrics")
        page.raise_for_status()
        metrics = parse(page.text)
        if key is None:
            return ServerSample(metrics=metrics)
        status = await web.get(f"{url}/status", headers={"Authorization": f"Bearer {key}"})
        if status.status_code == httpx.codes.UNAUTHORIZED:
            return ServerSample(metrics=metrics, error="refuses GPU_SERVER_KEY")
        status.raise_for_status()
        return ServerSample(status.json(), metrics)
    except httpx.HTTPStatusError as error:
        return ServerSample(error=f"status {error.response.status_code}")
    except httpx.HTTPError as error:
        return ServerSample(error=_why(error))
    except ValueError:
        return ServerSample(error="answers like no gpu-server")


async def _gate(web: httpx.AsyncClient, places: Places) -> tuple[Metrics | None, str]:
    if places.gate is None:
        return None, "it listens on another host's loopback"
    if places.gate_key is None:
        return None, "no key: set GATE_METRICS_KEY or LITELLM_MASTER_KEY"
    try:
        page = await web.get(f"{places.gate}/metrics/", headers={"Authorization": f"Bearer {places.gate_key}"})
        if page.status_code == httpx.codes.NOT_FOUND:
            return None, "it has no metrics: add monitoring: {} to the farm file"
        page.raise_for_status()
        return parse(page.text), ""
    except httpx.HTTPStatusError as error:
        return None, f"status {error.response.status_code}"
    except httpx.HTTPError as error:
        return None, _why(error)
    except ValueError:
        return None, "its metrics cannot be read"


def _why(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"no answer in {ASK_S:g} s"
    return "no connection" if isinstance(error, httpx.ConnectError) else type(error).__name__


def parse(text: str) -> Metrics:
    """Return a page in Prometheus' text format.

    Raises:
        ValueError: it is in another.
    """
    values: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return Metrics(values)
