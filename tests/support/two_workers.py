"""A gate of two workers under test."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from corral.render import render
from support.gate import MASTER_KEY, Gate
from support.postgres import Postgres
from support.random_farms import farm_of
from support.redis_server import Redis
from support.waiting import wait_until

ALL = ("fast with Redis", "stock with Redis", "fast alone", "stock alone")
WAYS = ALL if os.environ.get("TWO_WORKERS") == "all" else ALL[:1]
"""What the tests of two workers run with."""
_FARM = """
hosts: {gate: {}}
models: {chat: {source: {hub: o/r, file: m.gguf}}}
servers: [{model: chat, host: gate, ports: 8080}]
proxy: {workers: 2, caching: {redis: true, answers: false}}
"""


def share_in_redis(config: dict[str, Any], redis: Redis, folder: Path) -> dict[str, str]:
    """Have a gate's workers share what they count, by the settings that are rendered; return its environment."""
    files = {str(file.path): yaml.safe_load(file.text) for file in render(farm_of(_FARM, folder))}
    settings = files["litellm/config.yaml"]
    router, general = settings["router_settings"], settings["general_settings"]
    config["router_settings"] |= {name: router[name] for name in router if name.startswith(("redis_", "cache_"))}
    config["general_settings"]["coordination_redis"] = general["coordination_redis"]
    environment = files["litellm/compose.yaml"]["services"]["litellm"]["environment"]
    return {name: environment[name] for name in environment if name.startswith("REDIS_")} | redis.environment


@dataclass(frozen=True)
class TwoWorkers:
    """The gate and what it stands on.

    Attributes:
        gate: of two workers.
        database: that it keeps rows in.
        redis: that its workers share their counts in; None if they share none.
        fast: whether the fast path is on.
    """

    gate: Gate
    database: Postgres
    redis: Redis | None
    fast: bool

    def each(self) -> dict[int, bool]:
        """Return the workers that answer now, by pid, and whether each has the fast path."""

        def state(_: int) -> dict[str, Any]:
            return dict(httpx.get(f"{self.gate.url}/test/state", trust_env=False, timeout=30).json())

        with ThreadPoolExecutor(16) as threads:  # at once: one after the other would go to the same
            return {one["pid"]: one["fast_path"] for one in threads.map(state, range(16))}

    def wait_idle(self, timeout_s: float = 15) -> None:
        """Wait until no server counts as busy, where that is counted by both together."""
        redis = self.redis
        if redis is None:
            return

        def counts() -> list[str]:
            return [redis.run("GET", name)[0] for name in redis.run("KEYS", "*_request_count:*")]

        wait_until(lambda: set(counts()) == {"0"}, timeout_s, "the least-busy counters to be zero", 0.2)

    def places(self) -> list[str]:
        """The places among requests at a time that are taken, as what is asked counts them."""
        if self.redis is not None:
            return [key for key in self.redis.run("KEYS", "*:max_parallel_requests") if key]  # a blank line: none
        return [f"{key}: {count}" for key, count in self.gate.state()["parallel"].items() if count != "0"]

    def ask(self, body: dict[str, object], key: str = MASTER_KEY, timeout_s: float = 30) -> httpx.Response:
        """Ask on a connection of its own, which any of the workers may take."""
        return httpx.post(**self._request(body, key), timeout=timeout_s)

    def stream(
        self, body: dict[str, object], key: str, timeout_s: float = 30
    ) -> AbstractContextManager[httpx.Response]:
        """As `ask`, for an answer that is read as it comes."""
        return httpx.stream("POST", **self._request(body, key), timeout=timeout_s)

    def _request(self, body: dict[str, object], key: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {key}"}
        return {"url": f"{self.gate.url}/v1/chat/completions", "json": body, "headers": headers, "trust_env": False}
