"""A gate of two workers: their limits, budgets and counts hold over both, if they share them in Redis.

The suite runs the fast path with Redis. `TWO_WORKERS=all` also runs it without, and LiteLLM's own way, both ways:
docs/fast-path.md says what each gives.
"""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from support.fake_servers import FakeServers
from support.gate import READY_TIMEOUT_S, ROWS_AT_ONCE, config_for, running_gate
from support.postgres import running_postgres
from support.redis_server import running_redis
from support.two_workers import WAYS, TwoWorkers, share_in_redis
from support.waiting import wait_until

MODELS = {
    "chat": [("chat-1", "good"), ("chat-2", "another")],
    "embed": [("embed-1", "good")],
    "flaky": [("flaky-1", "fails_500"), ("flaky-2", "good")],
    "endless": [("endless-1", "endless")],
}
SOON_AGAIN = {"REDIS_CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "2"}
"""Seconds that a worker leaves a Redis alone that was gone: fewer than are rendered, for a test that waits for it."""


@pytest.fixture(scope="package")
def servers() -> Iterator[FakeServers]:
    running = FakeServers()
    yield running
    running.close()


@pytest.fixture(scope="package", params=WAYS)
def workers(
    request: pytest.FixtureRequest, servers: FakeServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoWorkers]:
    which = str(request.param)
    folder = tmp_path_factory.mktemp("two-workers")
    config = config_for(servers, MODELS)
    config["litellm_settings"]["callbacks"] += ["gate_probe.probe", "corral_fast_path.fast_path"]
    fast = which.startswith("fast")
    environment = {**ROWS_AT_ONCE, "NUM_WORKERS": "2", "CORRAL_FAST_PATH": "on" if fast else "off"}
    with (
        running_postgres(folder) as database,
        running_redis(folder) if which.endswith("Redis") else nullcontext() as redis,
    ):
        if redis is not None:
            environment |= share_in_redis(config, redis, folder) | SOON_AGAIN
        with running_gate(folder / "gate", database, config, environment) as gate:
            both = TwoWorkers(gate, database, redis, fast)
            wait_until(lambda: len(both.each()) == 2, READY_TIMEOUT_S, "both workers to answer", 0.3)
            yield both
