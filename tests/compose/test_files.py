"""The rendered files as they are, unmodified: Compose takes them, and the engine makes what the farm file says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from corral.farm import load_farm
from corral.render import Target, render
from support.compose_farm import GATE, GPU_BOX, SECRETS, SERVERS, Project
from support.docker_host import CHECKOUT, DockerHost

UUIDS = ("GPU-11111111-2222-3333-4444-555555555555", "GPU-66666666-7777-8888-9999-aaaaaaaaaaaa")


@pytest.fixture(scope="module")
def created(host: DockerHost) -> Iterator[Project]:
    """The GPU host's containers, made and not started."""
    project = Project(host, (GPU_BOX,), "as-it-is")
    project.compose("create", "--pull", "never", "--no-build")
    yield project
    project.compose("down", "--volumes")


def test_compose_takes_each_file(host: DockerHost) -> None:
    for file in (GPU_BOX, GATE):
        said = Project(host, (file,)).compose("config", "--quiet")
        assert said.stderr == ""


def test_each_server_asks_the_engine_for_its_one_card(created: Project) -> None:
    cards = {name: created.inspect(name)["HostConfig"]["DeviceRequests"] for name in SERVERS}
    for requests in cards.values():
        (request,) = requests
        assert request["Driver"] == "nvidia"
        assert request["Capabilities"] == [["gpu"]]
        assert request["Count"] == 0  # by their ids, not some number of any
    assert {name: requests[0]["DeviceIDs"] for name, requests in cards.items()} == {
        "qwen-1": ["0"], "qwen-2": ["1"], "nomic-embed-1": ["1"],
    }  # fmt: skip


def test_a_card_with_a_uuid_is_asked_for_by_it(host: DockerHost, tmp_path: Path) -> None:
    text = (CHECKOUT / "farms" / "two-hosts.yaml").read_text()
    for uuid in UUIDS:
        text = text.replace("power_limit_w: 130}", f"power_limit_w: 130, uuid: {uuid}}}", 1).replace(
            "130, uuid", "131, uuid"
        )
    farm = tmp_path / "corral.yaml"
    farm.write_text(text)
    (file,) = [
        each for each in render(load_farm(farm).value, frozenset(Target)) if each.path.match("gpu-server/compose.yaml")
    ]
    compose_file = tmp_path / "compose.yaml"
    compose_file.write_text(file.text)
    project = Project(host, (compose_file,), "by-uuid")
    try:
        project.compose("create", "--pull", "never", "--no-build")
        asked = [project.inspect(name)["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] for name in SERVERS]
    finally:
        project.compose("down")
    assert asked == [[UUIDS[0]], [UUIDS[1]], [UUIDS[1]]]


def test_each_container_is_shut_in_as_the_file_says(created: Project) -> None:
    services: dict[str, Any] = yaml.safe_load(GPU_BOX.read_text())["services"]
    for name in SERVERS:
        kept = created.inspect(name)["HostConfig"]
        assert kept["ReadonlyRootfs"] is True
        assert kept["CapDrop"] == ["ALL"]
        assert kept["SecurityOpt"] == ["no-new-privileges:true"]
        assert kept["Privileged"] is False
        assert kept["PidsLimit"] == services[name]["pids_limit"]
        assert f"{kept['Memory'] // 2**20}m" == services[name]["mem_limit"]
        assert kept["RestartPolicy"]["Name"] == "unless-stopped"
        assert kept["LogConfig"]["Config"] == services[name]["logging"]["options"]
        (mount,) = created.inspect(name)["Mounts"]
        assert (mount["Source"], mount["RW"]) == ("/srv/corral/models", False)
        (published,) = kept["PortBindings"].values()
        assert published[0]["HostIp"] == "192.168.1.20"


def test_without_nvidias_container_toolkit_the_engine_says_what_it_lacks(created: Project) -> None:
    said = created.compose("start", "qwen-1", check=False)
    assert said.returncode != 0
    assert 'could not select device driver "nvidia" with capabilities: [[gpu]]' in said.stderr


def test_nothing_is_made_without_its_secrets(host: DockerHost) -> None:
    for file, name in ((GPU_BOX, "GPU_SERVER_KEY"), (GATE, "POSTGRES_PASSWORD")):
        said = Project(host, (file,), "no-secrets", {**SECRETS, name: ""}).compose("create", check=False)
        assert said.returncode != 0
        assert f"{name} is missing a value: set it in .env" in said.stderr
