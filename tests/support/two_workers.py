"""A gate of two workers under test."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from support.gate import MASTER_KEY, Gate
from support.postgres import Postgres
from support.redis_server import Redis
from support.waiting import wait_until


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

    def ask(self, body: dict[str, object], key: str = MASTER_KEY) -> httpx.Response:
        """Ask on a connection of its own, which any of the workers may take."""
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.gate.url}/v1/chat/completions"
        return httpx.post(url, json=body, headers=headers, trust_env=False, timeout=30)
