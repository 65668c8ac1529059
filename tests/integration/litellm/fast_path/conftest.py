"""The same requests by the fast path and by LiteLLM's own: one gate for each, the same expectations.

Where the two differ a test says so with `fast(gate)`, and docs/fast-path.md says why.
"""

import uuid
from collections.abc import Iterator

import pytest

from support.fake_servers import FakeServers
from support.fast_path import models
from support.gate import ROWS_AT_ONCE, Gate, config_for, running_gate
from support.postgres import Postgres, running_postgres

WAYS = ("relayed", "stock")


@pytest.fixture(scope="package")
def servers() -> Iterator[FakeServers]:
    running = FakeServers()
    yield running
    running.close()


@pytest.fixture(scope="package")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with running_postgres(tmp_path_factory.mktemp("database")) as database:
        yield database


@pytest.fixture(scope="package", params=WAYS)
def gate(
    request: pytest.FixtureRequest, servers: FakeServers, database: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    config = config_for(
        servers,
        models(servers),
        model_group_alias={"assistant": "chat"},
        fallbacks=[{"falls-back": ["chat"]}],
    )
    for one in config["model_list"]:
        if one["model_name"] == "timeout":
            one["litellm_params"] |= {"timeout": 0.5, "stream_timeout": 0.5}
        if one["model_name"] == "elsewhere":
            one["litellm_params"]["organization"] = "not-of-the-farm"
    config["litellm_settings"]["callbacks"] += ["prometheus", "gate_probe.probe", "corral_fast_path.fast_path"]
    folder = tmp_path_factory.mktemp(f"gate-{request.param}")
    switch = "on" if request.param == "relayed" else "off"
    with running_gate(folder, database, config, {**ROWS_AT_ONCE, "CORRAL_FAST_PATH": switch}) as gate:
        yield gate


@pytest.fixture
def alias() -> str:
    """A name for a key that no other test has, to find its rows by."""
    return f"key-{uuid.uuid4()}"
