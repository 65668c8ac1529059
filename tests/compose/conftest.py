"""Containers: only inside the host that `scripts/test-compose` makes; without it none of these tests is collected."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.compose_farm import GATE, GPU_BOX, ON_CPU, ContainerFarm, Gate, Project, put_models, stopwatch
from support.compose_table import Tell
from support.docker_host import DockerHost

FOLDER = os.environ.get("CORRAL_COMPOSE_HOST")
collect_ignore_glob = [] if FOLDER else ["test_*.py"]

TABLE = pytest.StashKey[list[tuple[str, str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.compose)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[TABLE]
    if rows:
        terminalreporter.section("what was done to the containers, and what came of it")
        for done, seen, lost in rows:
            terminalreporter.write_line(f"| {done} | {seen} | {lost} |")


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Add a line to the table that is printed at the end."""
    return Tell(request.config.stash[TABLE])


@pytest.fixture(scope="session")
def host() -> Iterator[DockerHost]:
    """Docker's engine, with the farm's network and models."""
    assert FOLDER
    host = DockerHost(Path(FOLDER), os.environ["CORRAL_COMPOSE_CGROUP"], network=True)
    host.start()
    put_models()
    try:
        yield host
    finally:
        host.stop()


@pytest.fixture(scope="session")
def farm(host: DockerHost) -> Iterator[ContainerFarm]:
    """The farm of two hosts, up; a test leaves it healthy."""
    gpu_box = Project(host, (GPU_BOX, ON_CPU / "gpu-box.yaml"))
    gate_host = Project(host, (GATE, ON_CPU / "gate.yaml"))
    try:
        with stopwatch() as taken:
            for project in (gate_host, gpu_box):
                project.compose("up", "--detach", "--pull", "never", "--no-build", timeout_s=120)
            for project in (gpu_box, gate_host):
                project.compose("up", "--detach", "--pull", "never", "--no-build", "--wait", "--wait-timeout", "120")
        gate = Gate()
        yield ContainerFarm(host, gpu_box, gate_host, Gate(gate.make_key()), taken[0])
    finally:
        for project in (gpu_box, gate_host):
            print(project.compose("logs", "--tail", "40", check=False).stdout)
            project.compose("down", "--volumes", "--timeout", "5", check=False)
