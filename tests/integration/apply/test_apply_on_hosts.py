"""`corral apply` for a farm of containers: real Compose, and a stand-in for the engines."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.envfile import parse_env
from support import docker_stand_in
from support.ports import free_port

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
SECRETS = (
    "GPU_SERVER_KEY", "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "UI_USERNAME", "UI_PASSWORD", "POSTGRES_PASSWORD",
)  # fmt: skip


def text_of(ports: list[int], **changed: str) -> str:
    said = {"batch": "256", "embed_batch": "256", "docker": "local", "name": "yard", "image": "made:here"} | changed
    more = changed.get("more", "")
    return f"""
name: {said["name"]}
hosts:
  box: {{address: 127.0.0.1, docker: "{said["docker"]}", image: "{said["image"]}"}}
models:
  talk: {{source: {{path: /models/t.gguf}}, batch: {said["batch"]}, ubatch: 8, context: 512, slots: 1}}
  embed: {{mode: embedding, source: {{path: /models/e.gguf}}, batch: {said["embed_batch"]}, ubatch: 8, context: 512}}
servers:
  - {{model: talk, host: box, count: 2, ports: [{ports[0]}, {ports[1]}]}}
  - {{model: embed, host: box, ports: {ports[2]}}}
{more}
proxy: {{host: box, port: {ports[3]}, listen: 127.0.0.1, routing: {{cooldown_s: 0}}}}
"""


class Yard:
    """A folder with a farm file, its rendered files, and engines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port() for _ in range(5)]
        (folder / "engines").mkdir()
        (folder / "bin").mkdir()
        docker = folder / "bin" / "docker"
        docker.write_text(f'#!/bin/sh\nexec {sys.executable} {docker_stand_in.__file__} "$@"\n')
        docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
        (folder / ".env").write_text("".join(f"{name}=secret-{name.lower()}\n" for name in SECRETS))

    def say(self, **changed: str) -> None:
        (self.folder / "corral.yaml").write_text(text_of(self.ports, **changed))

    def corral(self, *words: str, rc: int = 0) -> str:
        done = subprocess.run(
            [BIN / "corral", *words], cwd=self.folder, capture_output=True, text=True, timeout=90, check=False,
            env={
                "PATH": f"{self.folder / 'bin'}:{os.defpath}", "HOME": str(self.folder), "COLUMNS": "200",
                "YARD": str(self.folder / "engines"), "REAL_COMPOSE": str(BIN / "docker-compose"),
            },
        )  # fmt: skip
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout + done.stderr

    def containers(self, engine: str = "local") -> dict[str, dict[str, Any]]:
        found = json.loads((self.folder / "engines" / engine / "containers.json").read_text())
        return {each["service"]: each for each in found.values()}

    def commands(self) -> list[list[str]]:
        log = self.folder / "engines" / "commands.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def started(self) -> list[str]:
        return [words[-1] for words in self.commands() if "up" in words]

    def files(self) -> dict[str, str]:
        places = (each for top in ("hosts", "litellm", "load-tests") for each in (self.folder / top).rglob("*"))
        return {str(each.relative_to(self.folder)): each.read_text() for each in places if each.is_file()}

    def end(self) -> None:
        for file in (self.folder / "engines").glob("*/containers.json"):
            for each in json.loads(file.read_text()).values():
                if each["pid"]:
                    try:
                        os.kill(each["pid"], signal.SIGKILL)
                    except ProcessLookupError:
                        continue


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    made.say()
    yield made
    made.end()


@pytest.fixture
def running(yard: Yard) -> Yard:
    yard.corral("apply", "--yes")
    (yard.folder / "engines" / "commands.log").unlink()
    return yard


def test_the_first_apply_starts_all_servers_before_gate_and_is_kept(yard: Yard) -> None:
    said = yard.corral("apply", "--yes")
    assert yard.started() == ["talk-1", "talk-2", "embed-1", "postgres", "litellm", "backup"]
    assert "talk-1: ready after" in said
    assert parse_env((yard.folder / ".env").read_text())["GPU_SERVER_KEY"] not in said
    assert "added talk-1, talk-2, embed-1, postgres, litellm, backup" in yard.corral("history")
    assert "nothing to change" in yard.corral("apply")
    yard.corral("render", "--check")


def test_a_change_of_one_model_replaces_its_servers_only(running: Yard) -> None:
    before = running.containers()
    running.say(batch="128")
    assert "+      N_BATCH: '128'" in running.corral("apply", "--dry-run")
    assert running.containers() == before
    running.corral("apply")  # two servers, so nothing to ask
    assert running.started() == ["talk-1", "talk-2"]
    after = running.containers()
    assert [name for name in after if after[name] != before[name]] == ["talk-1", "talk-2"]


def test_the_gate_restarts_last_and_is_asked_about_where_its_configuration_changes(running: Yard) -> None:
    running.say(more=f"  - {{model: embed, host: box, ports: {running.ports[4]}, name: further}}")
    assert "say --yes" in running.corral("apply", rc=2)
    running.corral("apply", "--yes")
    assert running.started() == ["further-1", "litellm"]
    running.say()
    running.corral("apply", "--yes")
    assert "further-1" not in running.containers()
    order = [words for words in running.commands() if "up" in words or "rm" in words]
    assert "rm" in order[-1]  # after the gate no longer asks it


def test_what_does_not_come_up_is_put_back_with_all_that_went_before(running: Yard) -> None:
    files, before = running.files(), running.containers()
    running.say(batch="128", embed_batch=docker_stand_in.FAILS)
    told = running.corral("apply", "--yes", rc=1)
    assert "llama-server does not stay up; its last words: log of embed-1 | CUDA error: out of memory" in told
    assert "everything was put back as it was" in told
    assert running.files() == files
    digests = {name: each["digest"] for name, each in running.containers().items()}
    assert digests == {name: each["digest"] for name, each in before.items()}
    assert running.started() == ["talk-1", "talk-2", "embed-1", "embed-1", "talk-2", "talk-1"]
    running.say()
    assert "nothing to change" in running.corral("apply")


def test_a_container_that_ends_is_put_back_at_once(running: Yard) -> None:
    running.say(batch=docker_stand_in.ENDS)
    assert "its container does not stay up (it is exited)" in running.corral("apply", "--yes", rc=1)
    assert running.started() == ["talk-1", "talk-1"]


def test_an_image_that_cannot_be_had_touches_nothing(running: Yard) -> None:
    files = running.files()
    running.say(image="nowhere/gone:1")
    assert "nowhere/gone:1 cannot be had" in running.corral("apply", "--yes", rc=1)
    assert not running.started()
    assert running.files() == files


def test_a_server_that_was_stopped_by_hand_is_started(running: Yard) -> None:
    os.kill(running.containers()["talk-2"]["pid"], signal.SIGKILL)
    running.corral("apply")
    assert running.started() == ["talk-2"]


def test_rollback_goes_back_to_the_farm_file_before(running: Yard) -> None:
    running.say(batch="128")
    running.corral("apply")
    digests = running.containers()["talk-1"]["digest"]
    running.corral("rollback", "--yes")
    assert running.containers()["talk-1"]["digest"] != digests
    assert "N_BATCH: '256'" in running.files()["hosts/box/gpu-server/compose.yaml"]
    assert "rollback" in running.corral("history")


def test_an_engine_elsewhere_is_reached_as_the_farm_file_says(yard: Yard) -> None:
    yard.say(docker="ssh://corral@box.lan")
    yard.corral("apply", "--yes")
    assert all(
        words[:2] == ["--host", "ssh://corral@box.lan"] for words in yard.commands() if "version" not in words[1]
    )
    assert "talk-1" in yard.containers("ssh:__corral@box.lan")


def test_a_farm_that_was_renamed_does_not_start_beside_itself(running: Yard) -> None:
    files = running.files()
    running.say(name="other")
    assert "the farm was renamed" in running.corral("apply", "--yes", rc=1)
    assert not running.started()
    assert running.files() == files


def test_an_engine_that_does_not_answer_is_named(yard: Yard) -> None:
    yard.say(docker="context:silent")
    assert "box (context silent) does not answer: Cannot connect" in yard.corral("apply", "--yes", rc=1)
    assert not yard.files()


def test_a_missing_secret_is_named(yard: Yard) -> None:
    (yard.folder / ".env").write_text("".join(f"{name}=x\n" for name in SECRETS if name != "GPU_SERVER_KEY"))
    assert "GPU_SERVER_KEY" in yard.corral("apply", "--yes", rc=1)
    (yard.folder / ".env").unlink()
    assert ".env is there" in yard.corral("apply", "--yes", rc=1)
    assert not yard.started()


def test_a_host_without_an_engine_that_can_be_reached_is_refused(yard: Yard) -> None:
    text = text_of(yard.ports).replace('address: 127.0.0.1, docker: "local"', "address: 192.0.2.7")
    (yard.folder / "corral.yaml").write_text(text)
    assert "give hosts.box.docker, such as ssh://USER@192.0.2.7" in yard.corral("apply", rc=2)
