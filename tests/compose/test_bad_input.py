"""What a person gets wrong on a host of containers: what is said, and how often it is tried again."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.render.proxy_host import POSTGRES_IMAGE
from support.compose_farm import GATE, GPU_BOX, MODELS, ON_CPU, Project, server_says
from support.compose_images import GPU_SERVER
from support.docker_host import CHECKOUT, DockerHost
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


def failed(project: Project, *, said: str) -> None:
    """See a server say what is wrong, in its log and on /health, and its container stay up meanwhile."""
    wait_until(lambda: server_says("qwen-1").get("state") == "failed", 30, "the server to say that it failed", 0.2)
    assert said in str(server_says("qwen-1")["detail"])
    assert said in project.logs("qwen-1")
    assert project.inspect("qwen-1")["RestartCount"] == 0


def test_an_absent_model_is_named_and_found_once_it_is_there(override: Override) -> None:
    late = MODELS / "late.gguf"
    settings = f'{{MODEL_PATH: "/models/{late.name}", RESTART_PAUSE_S: "3"}}'
    project = override(f"services: {{qwen-1: {{environment: {settings}}}}}")
    project.compose("up", *NEVER_BUILT, "qwen-1")
    failed(project, said=f"MODEL_PATH: /models/{late.name} does not exist; put the model there or correct the path")
    try:
        shutil.copyfile(MODELS / "qwen.gguf", late)
        project.wait_until_healthy("qwen-1")
        assert project.inspect("qwen-1")["RestartCount"] >= 1
    finally:
        late.unlink()


def test_the_image_has_a_wrong_setting_wait_a_minute(host: DockerHost) -> None:
    assert "RESTART_PAUSE_S=60" in host.inspect(GPU_SERVER)["Config"]["Env"]


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
    failed(project, said="/app/llama-server is built for aarch64, and this machine is")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("--env", "BACKUP_AT=25:00"), "BACKUP_AT 25:00 is no time of a day; give one like 03:15, in UTC"),
        (("--tmpfs", "/dumps:uid=0,mode=755"), "/dumps cannot be written to by user 999; give the volume to that user"),
    ],
    ids=["no time", "no room for it"],
)
def test_a_nightly_dump_that_cannot_be_made_is_said_once_a_minute(
    host: DockerHost, settings: tuple[str, ...], said: str
) -> None:
    given = [word for name in ("BACKUP_AT=03:15", "BACKUP_KEEP=2", "BACKUP_FOLDER=/dumps") for word in ("--env", name)]
    container = host.docker(
        *(
            "run",
            "--detach",
            "--restart",
            "unless-stopped",
            "--network",
            "none",
            "--user",
            "999:999",
            *given,
            *settings,
        ),
        *("--volume", f"{CHECKOUT}/litellm/scripts:/scripts:ro", "--entrypoint", "bash"),
        *(POSTGRES_IMAGE, "/scripts/nightly.sh"),
    ).stdout.strip()
    try:
        wait_until(lambda: said in host.docker("logs", container).stderr, 30, "the reason")
        state = host.inspect(container)
        assert (state["State"]["Status"], state["RestartCount"]) == ("running", 0)
        host.docker("stop", container)
        assert host.inspect(container)["State"]["ExitCode"] == 0  # at once, not killed when its grace was over
    finally:
        host.docker("rm", "--force", container)


def test_a_disk_without_room_for_the_database_is_named(host: DockerHost, tmp_path: Path) -> None:
    override = tmp_path / "override.yaml"
    tmpfs = '{driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: "size=8m,uid=999,gid=999"}}'
    override.write_text(f"volumes: {{postgres: {tmpfs}}}")
    project = Project(host, (GATE, ON_CPU / "gate.yaml", override), "full-disk")
    try:
        project.compose("up", "--detach", "--no-deps", "--pull", "never", "postgres")
        wait_until(lambda: "No space left on device" in project.logs("postgres"), 30, "initdb's words")
    finally:
        project.compose("down", "--volumes", "--timeout", "1")


def test_a_volume_that_the_database_may_not_write_is_named(host: DockerHost) -> None:
    project = Project(host, (GATE, ON_CPU / "gate.yaml"), "bad-volume")
    try:
        project.compose("create", "--pull", "never", "postgres")
        give_away = ("--user", "0:0", "--volume", "bad-volume_postgres:/data", "--entrypoint", "/bin/chmod")
        host.docker("run", "--rm", *give_away, GPU_SERVER, "755", "/data")
        give_away = (*give_away[:-1], "/bin/chown")
        host.docker("run", "--rm", *give_away, GPU_SERVER, "0:0", "/data")
        project.compose("start", "postgres")
        denied = "/var/lib/postgresql/data cannot be written to by user 999; give the volume to that user"
        wait_until(lambda: denied in project.logs("postgres"), 30, "the refusal")
        state = project.inspect("postgres")
        assert (state["State"]["Status"], state["RestartCount"]) == ("running", 0)
    finally:
        project.compose("down", "--volumes", "--timeout", "1")
