"""chaos.js's companion ends real servers, one after another, and sees them come back."""

from pathlib import Path
from typing import Any

import pytest

from corral.farmstate import FarmState, PartState
from corral.loadtest.killing import killing
from corral.render.k6 import Targets
from support.fake_llama import FakeLlama
from support.gpu_servers import KEY, GpuServer
from support.waiting import wait_until

pytestmark = pytest.mark.integration


def targets_of(servers: dict[str, GpuServer]) -> Targets:
    model: Any = {"name": "chat", "mode": "chat", "servers": list(servers)}
    alone: Any = {"name": "alone", "mode": "chat", "servers": ["alone-1"]}
    listed: Any = [
        {"name": name, "model": "chat", "url": f"http://127.0.0.1:{server.port}"} for name, server in servers.items()
    ]
    listed.append({"name": "alone-1", "model": "alone", "url": "http://127.0.0.1:9"})
    return {"farm": "test", "gate": "", "models": [model, alone], "servers": listed}


def test_each_server_in_its_turn_dies_and_comes_back_but_not_a_models_only_one(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    told: list[str] = []
    fakes = [FakeLlama(first), FakeLlama(second)]
    with (
        GpuServer(first / "log", LLAMA_SERVER=fakes[0].launcher) as one,
        GpuServer(second / "log", LLAMA_SERVER=fakes[1].launcher) as two,
    ):
        servers = {"chat-1": one.ready(), "chat-2": two.ready()}
        parts = [PartState(name, "service", pid=server.process.pid) for name, server in servers.items()]
        before = [server.children()[0].pid for server in servers.values()]
        with killing(lambda: FarmState("", parts=parts), targets_of(servers), KEY, 0.2, told.append) as deaths:
            wait_until(lambda: len(deaths) >= 2, 60, "both servers to have died")
        after = [server.children()[0].pid for server in servers.values()]
    for fake in fakes:
        fake.close()
    assert [death.server for death in deaths][:2] == ["chat-1", "chat-2"]
    assert all(death.back_after_s is not None and death.back_after_s < 30 for death in deaths)
    assert set(before).isdisjoint(after)
    assert "chat-1: ready again after" in told[0]
