"""The watchdog: containers that stay unhealthy, cards that are gone."""

import os
import subprocess
from pathlib import Path

import pytest

from support.commands import Commands

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[3] / "gpu-server" / "scripts" / "watchdog"


class Watched:
    """A host with one container and two cards."""

    def __init__(self, folder: Path) -> None:
        self.commands = Commands(folder / "bin")
        self.state = folder / "state"
        self.cards("GPU-aa", "GPU-bb")
        self.health("healthy")

    def cards(self, *uuids: str) -> None:
        self.commands.add("nvidia-smi", "\n".join(f"echo {uuid}" for uuid in uuids))

    def health(self, health: str) -> None:
        self.commands.add("docker", f'case "$1" in ps) echo id1 ;; inspect) echo "/farm-qwen-1 {health}" ;; esac')

    def look(self, later_s: int = 0, *, rc: int = 0) -> str:
        self.commands.add("date", f"echo {1_000_000 + later_s}")
        done = subprocess.run(
            ["bash", SCRIPT], capture_output=True, text=True, timeout=30, check=False,
            env={"PATH": self.commands.path, "RUNTIME_DIRECTORY": str(self.state), "HOME": os.environ.get("HOME", "/")},
        )  # fmt: skip
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stderr

    @property
    def restarts(self) -> int:
        return len(self.commands.called("docker restart id1"))


@pytest.fixture
def host(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_nothing_is_done_to_what_is_well(host: Watched) -> None:
    assert host.look() == ""
    assert host.look(3600) == ""
    assert host.restarts == 0


def test_a_container_that_stays_unhealthy_is_restarted_once_in_a_while(host: Watched) -> None:
    host.health("unhealthy")
    host.look(0)
    host.look(299)
    assert host.restarts == 0
    assert "farm-qwen-1 has been unhealthy for 300 s: restarting it" in host.look(300)
    assert host.restarts == 1
    host.look(360)
    assert "left alone; docker logs farm-qwen-1" in host.look(700, rc=1)
    assert host.restarts == 1
    host.look(2160)
    assert host.restarts == 2


def test_one_that_comes_back_by_itself_begins_anew(host: Watched) -> None:
    host.health("unhealthy")
    host.look(0)
    host.health("healthy")
    host.look(200)
    host.health("unhealthy")
    host.look(400)
    host.look(600)
    assert host.restarts == 0


def test_a_card_that_is_gone_is_said_until_it_is_back(host: Watched) -> None:
    host.look()
    host.cards("GPU-aa")
    assert "GPU GPU-bb is gone; look for Xid" in host.look(60, rc=1)
    assert "GPU-bb" in host.look(120, rc=1)
    host.cards("GPU-aa", "GPU-bb")
    assert host.look(180) == ""


def test_a_driver_that_does_not_answer_is_said_and_containers_are_looked_after_all_the_same(host: Watched) -> None:
    host.commands.add("nvidia-smi", 'echo "Unable to determine the device handle for GPU0: Unknown Error"; exit 255')
    host.health("unhealthy")
    assert "nvidia-smi does not answer: Unable to determine" in host.look(0, rc=1)
    host.look(300, rc=1)
    assert host.restarts == 1
