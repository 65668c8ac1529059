"""Two GPU hosts at once behind a gate of two workers with Redis; one host leaves and comes back, and Redis dies."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from corral.farm import load_farm
from corral.render import Target, render
from corral.render.writing import compare, write
from support.compose_farm import ON_CPU, SECRETS, Gate, Load, Project, lost, stopwatch
from support.compose_table import Tell
from support.docker_host import DockerHost
from support.waiting import wait_until

FARM = """
name: two-boxes
hosts:
  box-a: {address: 192.168.1.20, cores: 2}
  box-b: {address: 192.168.1.21, cores: 2}
  gate: {address: 192.168.1.10}
models:
  qwen:
    source: {path: /srv/corral/models/qwen.gguf}
    aliases: [chat]
    context: 1024
    slots: 2
    threads: 1
    batch: 256
    ubatch: 64
    cache_ram_mib: 32
    memory_mib: 640
servers:
  - {model: qwen, host: box-a, ports: 8080}
  - {model: qwen, host: box-b, ports: 8080}
proxy: {host: gate, listen: 192.168.1.10, workers: 2, caching: {redis: true}}
"""
QUICKER = "services: {%s: {build: !reset null, healthcheck: {interval: 2s}}}\n"  # as cpu/gpu-box.yaml
RPM = 4


class Boxes:
    """The farm's three projects, and a key."""

    def __init__(self, host: DockerHost, folder: Path) -> None:
        file = folder / "corral.yaml"
        file.write_text(FARM)
        farm = load_farm(file).value
        targets = [Target.GPU_HOSTS, Target.LITELLM]
        write(folder, compare(folder, render(farm, frozenset(targets)), targets), prune=False)
        secrets = {**SECRETS, "REDIS_PASSWORD": "passwordofredis"}

        def gpu_host(name: str, server: str) -> Project:
            override = folder / f"{name}.yaml"
            override.write_text(QUICKER % server)
            return Project(host, (folder / "hosts" / name / "gpu-server/compose.yaml", override), None, secrets)

        self.boxes = {"qwen-1": gpu_host("box-a", "qwen-1"), "qwen-2": gpu_host("box-b", "qwen-2")}
        self.gate_host = Project(host, (folder / "litellm/compose.yaml", ON_CPU / "gate.yaml"), None, secrets)
        self.projects = (*self.boxes.values(), self.gate_host)

    def up(self) -> None:
        with ThreadPoolExecutor() as threads:
            arguments = ("up", "--detach", "--pull", "never", "--no-build", "--wait", "--wait-timeout", "150")
            for done in [threads.submit(project.compose, *arguments) for project in self.projects]:
                done.result()

    def down(self) -> None:
        for project in self.projects:
            print(project.compose("logs", "--tail", "30", check=False).stdout)
            project.compose("down", "--volumes", "--timeout", "1", check=False)


@pytest.fixture
def boxes(host: DockerHost, tmp_path: Path) -> Iterator[Boxes]:
    made = Boxes(host, tmp_path)
    try:
        made.up()
        yield made
    finally:
        made.down()


def answered_by(gate: Gate) -> str:
    return str(gate.chat().raise_for_status().headers["x-corral-server"])


def test_two_gpu_hosts_serve_behind_two_workers_and_redis(boxes: Boxes, tell: Tell) -> None:
    gate = Gate(Gate().make_key())
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: answered_by(gate), range(12))) == {"qwen-1", "qwen-2"}

    first = psutil.Process(boxes.gate_host.inspect("litellm")["State"]["Pid"])
    assert len([each for each in first.children(recursive=True) if "spawn_main" in " ".join(each.cmdline())]) == 2
    limited = Gate(Gate().make_key(rpm_limit=RPM))
    codes = [limited.chat(tokens=1).status_code for _ in range(3 * RPM)]
    assert set(codes) == {200, 429}
    assert codes.count(200) == RPM  # counted by Redis: each worker alone would let as many through

    with Load(gate) as load:
        boxes.boxes["qwen-2"].compose("stop")
        load.wait_for_more()
        assert {answered_by(gate) for _ in range(3)} == {"qwen-1"}
        boxes.boxes["qwen-2"].compose("start")
        with stopwatch() as taken:
            wait_until(lambda: answered_by(gate) == "qwen-2", 60, "the second box to serve again")
        psutil.Process(boxes.gate_host.inspect("redis")["State"]["Pid"]).kill()
        load.wait_for_more()
        boxes.gate_host.wait_until_healthy("redis")
        load.wait_for_more()
    tell(
        "one of two GPU hosts stopped and started, then `kill -9` of Redis; 2 workers, 2 clients",
        f"the other host answers; the first one again {taken[0]:.1f} s after its start",
        lost(load),
    )
    assert load.failures == []
