"""The keeper with small parts of our own: order, failure, restart, stop, and that nothing outlives it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from corral import farmstate
from corral.down import bring_down, leftovers
from corral.farmstate import FarmState
from corral.parts import OWNER_VARIABLE, Part
from corral.paths import StateDir, write_private
from support.ports import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

SERVE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE


class Farm:
    """A keeper under test with the parts given."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir(root)
        self.state.create()
        self.keeper: subprocess.Popen[bytes] | None = None

    def part(self, name: str, script: str = SERVE, *, needs: tuple[str, ...] = (), **more: object) -> Part:
        job = more.pop("kind", "service") == "job"
        port = 0 if job else free_port()
        return Part(
            name=name,
            kind="job" if job else "service",
            argv=(sys.executable, "-c", script, str(port)),
            environment={"PATH": os.defpath, OWNER_VARIABLE: str(self.state.root)},
            needs=needs,
            port=port,
            ready_path="" if job else "/",
            **{"ready_timeout_s": 20, "stop_timeout_s": 2, **more},  # type: ignore[arg-type]
        )

    def start(self, *parts: Part) -> subprocess.Popen[bytes]:
        plan = {
            "endpoint": "http://127.0.0.1:1/v1",
            "models": [],
            "modes": {},
            "parts": [part.to_json() for part in parts],
        }
        write_private(self.state.plan_file, json.dumps(plan))
        self.state.state_file.unlink(missing_ok=True)
        self.keeper = subprocess.Popen(
            [sys.executable, "-m", "corral.keeper", str(self.state.root)],
            env={**os.environ, OWNER_VARIABLE: str(self.state.root)},
        )
        wait_until(self.state.state_file.exists, 10, "the keeper")
        return self.keeper

    def now(self) -> FarmState:
        state = farmstate.read(self.state.state_file)
        assert state is not None
        return state

    def wait_phase(self, phase: str) -> FarmState:
        wait_until(lambda: self.now().phase == phase, 20, phase)
        return self.now()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path / "state")
    yield farm
    if farm.keeper and farm.keeper.poll() is None:
        farm.keeper.kill()
    if farm.keeper:
        farm.keeper.wait(5)
    bring_down(farm.state)
    assert leftovers(farm.state) == []


def test_parts_start_when_what_they_need_is_ready_and_all_stop_on_sigterm(farm: Farm) -> None:
    keeper = farm.start(
        farm.part("job", "print('converted')", kind="job"),
        farm.part("database", needs=("job",)),
        farm.part("gate", needs=("database",)),
    )
    running = farm.wait_phase("running")
    assert [(p.name, p.state) for p in running.parts] == [("job", "done"), ("database", "ready"), ("gate", "ready")]
    assert running.part("job").since <= running.part("database").since <= running.part("gate").since
    pids = [part.pid for part in running.services()]
    keeper.terminate()
    assert keeper.wait(10) == 0
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    assert farm.now().phase == "stopped"
    assert not farm.state.plan_file.exists()  # it held secrets


def test_a_part_that_ends_at_start_ends_the_start_with_its_last_words(farm: Farm) -> None:
    keeper = farm.start(farm.part("fine"), farm.part("broken", "import sys; sys.exit('MODEL_PATH is not a GGUF')"))
    assert keeper.wait(20) == 1
    state = farm.now()
    assert state.phase == "failed"
    assert state.failure is not None
    assert state.failure.part == "broken"
    assert "exit code 1: MODEL_PATH is not a GGUF" in state.failure.cause
    assert str(farm.state.log_file("broken")) in state.failure.mend
    assert leftovers(farm.state) == []


def test_a_failed_job_stops_what_runs_beside_it(farm: Farm) -> None:
    keeper = farm.start(farm.part("fine"), farm.part("models", "raise SystemExit('no room on disk')", kind="job"))
    assert keeper.wait(20) == 1
    assert farm.now().failure is not None
    assert "no room on disk" in farm.now().failure.cause  # type: ignore[union-attr]


def test_a_part_that_is_never_ready_is_given_up_after_its_time(farm: Farm) -> None:
    keeper = farm.start(farm.part("mute", "import threading; threading.Event().wait()", ready_timeout_s=1))
    assert keeper.wait(20) == 1
    assert "not ready after 1 s" in farm.now().failure.cause  # type: ignore[union-attr]


def test_a_service_that_dies_comes_back_and_is_counted(farm: Farm) -> None:
    farm.start(farm.part("gate"))
    before = farm.wait_phase("running").part("gate")
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: farm.now().part("gate").pid not in (None, before.pid), 10, "another process")
    wait_until(lambda: farm.now().part("gate").state == "ready", 10, "ready again")
    assert farm.now().part("gate").restarts == 1


def test_a_keeper_killed_with_sigkill_takes_its_parts_along(farm: Farm) -> None:
    keeper = farm.start(farm.part("one"), farm.part("two"))
    farm.wait_phase("running")
    keeper.kill()
    keeper.wait(5)
    wait_until(lambda: leftovers(farm.state) == [], 10, "the parts to end")


def test_down_ends_what_ignores_sigterm_after_the_keepers_death(farm: Farm) -> None:
    keeper = farm.start(farm.part("stubborn", STUBBORN))
    stubborn = farm.wait_phase("running").part("stubborn").pid
    keeper.kill()
    keeper.wait(5)
    assert stubborn is not None
    assert psutil.pid_exists(stubborn)
    assert bring_down(farm.state) == 1
    assert not psutil.pid_exists(stubborn)
    assert farm.now().phase == "stopped"


def test_a_part_that_ignores_sigterm_is_killed_after_its_time(farm: Farm) -> None:
    keeper = farm.start(farm.part("stubborn", STUBBORN, stop_timeout_s=0.3))
    pid = farm.wait_phase("running").part("stubborn").pid
    keeper.terminate()
    assert keeper.wait(10) == 0
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_there_is_one_keeper_at_a_time(farm: Farm) -> None:
    farm.start(farm.part("one"))
    farm.wait_phase("running")
    second = subprocess.run([sys.executable, "-m", "corral.keeper", str(farm.state.root)], check=False, timeout=20)
    assert second.returncode == 3
    assert farm.now().phase == "running"


def test_a_full_disk_does_not_end_a_running_farm(farm: Farm) -> None:
    """The state cannot be written any more; what serves goes on serving, and what dies still comes back."""
    farm.start(farm.part("gate"))
    before = farm.wait_phase("running").part("gate").pid
    assert before is not None
    run = farm.state.state_file.parent
    farm.state.state_file.unlink()
    farm.state.state_file.mkdir()  # a write now fails with an OSError, as on a full disk
    os.kill(before, signal.SIGKILL)
    wait_until(
        lambda: [p for p in leftovers(farm.state) if SERVE[:20] in " ".join(p.cmdline()) and p.pid != before],
        10,
        "a new part",
    )
    assert farm.keeper is not None
    assert farm.keeper.poll() is None
    farm.keeper.terminate()
    farm.keeper.wait(10)
    farm.state.state_file.rmdir()
    assert run.is_dir()


def test_a_part_whose_program_is_missing_says_so(farm: Farm) -> None:
    part = farm.part("gate")
    keeper = farm.start(Part.from_json({**part.to_json(), "argv": ["/nonexistent/program"]}))
    assert keeper.wait(20) == 1
    failure = farm.now().failure
    assert failure is not None
    assert failure.cause == "/nonexistent/program cannot be started: No such file or directory"
    assert farm.now().part("gate").state == "failed"


def test_down_leaves_processes_alone_that_only_name_the_state_folder(farm: Farm) -> None:
    """CORRAL_STATE is a variable that people export; their shell is not a part of the farm."""
    shell = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                             env={**os.environ, "CORRAL_STATE": str(farm.state.root)})  # fmt: skip
    try:
        assert bring_down(farm.state) == 0
        assert shell.poll() is None
    finally:
        shell.communicate(b"\n", timeout=10)
