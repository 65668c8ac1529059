"""What a person gets wrong on a host of containers: what is said, and how often it is tried again."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.compose_farm import GATE, GPU_BOX, ON_CPU, Project
from support.compose_images import GPU_SERVER
from support.docker_host import DockerHost
from support.waiting import wait_until

NEVER_BUILT = ("--pull", "never", "--no-build", "--detach", "--no-deps")
AARCH64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00\x01\x00\x00\x00" + bytes(40)


class Override:
    def __init__(self, host: DockerHost, folder: Path) -> None:
        self._host, self._folder = host, folder
        self.project = Project(host, (GPU_BOX, ON_CPU / "gpu-box.yaml"), "bad-input")

    def __call__(self, text: str) -> Project:
        file = self._folder / "override.yaml"
        file.write_text(text)
        self.project = Project(self._host, (*self.project.files, file), "bad-input")
        return self.project

    def down(self) -> None:
        self.project.compose("down", "--volumes", "--timeout", "1")


@pytest.fixture
def override(tmp_path: Path, host: DockerHost) -> Iterator[Override]:
    """The GPU host's project with a further override file; taken down afterwards."""
    made = Override(host, tmp_path)
    yield made
    made.down()


def test_an_absent_model_is_named_and_not_tried_in_a_hot_loop(override: Override) -> None:
    project = override('services: {qwen-1: {environment: {MODEL_PATH: "/models/absent.gguf"}}}')
    project.compose("up", *NEVER_BUILT, "qwen-1")
    wait_until(lambda: project.inspect("qwen-1")["RestartCount"] >= 4, 30, "four restarts")
    state = project.inspect("qwen-1")["State"]
    assert state["ExitCode"] == 2
    said = project.logs("qwen-1")
    assert "MODEL_PATH: /models/absent.gguf does not exist; put the model there or correct the path" in said
    # The engine's pause doubles up to a minute: 0.1, 0.2, 0.4 and 0.8 s lie between the starts so far.
    assert state["Restarting"] is True


def test_a_folder_of_models_that_is_not_there_stops_the_start(override: Override) -> None:
    absent = "{type: bind, source: /srv/absent, target: /models, read_only: true, bind: {create_host_path: false}}"
    text = f"services: {{qwen-1: {{volumes: !override [{absent}]}}}}"
    said = override(text).compose("up", *NEVER_BUILT, "qwen-1", check=False)
    assert said.returncode != 0
    assert "/srv/absent" in said.stderr
    assert not Path("/srv/absent").exists()


def test_a_port_that_is_taken_is_named(override: Override) -> None:
    with socket.create_server(("192.168.1.20", 8080)):
        said = override("services: {}").compose("up", *NEVER_BUILT, "qwen-1", check=False)
    assert said.returncode != 0
    assert "192.168.1.20:8080" in said.stderr
    assert "address already in use" in said.stderr


def test_a_llama_server_for_another_processor_is_not_run_in_a_hot_loop(override: Override, tmp_path: Path) -> None:
    foreign = tmp_path / "llama-server"
    foreign.write_bytes(AARCH64)
    foreign.chmod(0o755)
    project = override(
        f"services: {{qwen-1: {{volumes: [{{type: bind, source: {foreign}, target: /app/llama-server}}]}}}}"
    )
    project.compose("up", *NEVER_BUILT, "qwen-1")
    wait_until(lambda: '"failed"' in project.logs("qwen-1"), 30, "the server to give up")
    assert project.inspect("qwen-1")["RestartCount"] == 0


def test_a_volume_that_the_database_may_not_write_is_named(host: DockerHost) -> None:
    project = Project(host, (GATE, ON_CPU / "gate.yaml"), "bad-volume")
    try:
        project.compose("create", "--pull", "never", "postgres")
        give_away = ("--user", "0:0", "--volume", "bad-volume_postgres:/data", "--entrypoint", "/bin/chmod")
        host.docker("run", "--rm", *give_away, GPU_SERVER, "755", "/data")
        give_away = (*give_away[:-1], "/bin/chown")
        host.docker("run", "--rm", *give_away, GPU_SERVER, "0:0", "/data")
        project.compose("start", "postgres")
        denied = 'could not change permissions of directory "/var/lib/postgresql/data": Operation not permitted'
        wait_until(lambda: denied in project.logs("postgres"), 30, "initdb's refusal")
    finally:
        project.compose("down", "--volumes", "--timeout", "1")
