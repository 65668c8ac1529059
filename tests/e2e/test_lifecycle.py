"""Up, down, up again: what is kept, what is gone, and what happens when it goes wrong half-way."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from support.farm import CHECKOUT, CORRAL, Farm, farm_in, marked_processes
from support.waiting import wait_until

pytestmark = pytest.mark.e2e

QUESTION = [{"role": "user", "content": "Name a colour."}]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Farm]:
    """A farm that is down."""
    with farm_in(tmp_path / "state") as farm:
        yield farm


def listening(farm: Farm) -> set[int]:
    """The ports that processes of the farm listen on."""
    pids = {process.pid for process in farm.processes()}
    return {
        c.laddr.port
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.pid in pids and c.laddr
    }


def test_down_and_up_keep_keys_and_spend_and_leave_nothing_between(fresh: Farm) -> None:
    fresh.up()
    key, endpoint = fresh.key, fresh.endpoint
    for _ in range(3):
        fresh.client().chat.completions.create(model="chat", messages=QUESTION, max_tokens=4)
    assert stat.S_IMODE(fresh.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((fresh.state / ".env").stat().st_mode) == 0o600
    loose = [p for p in fresh.state.rglob("*") if p.is_file() and p.stat().st_mode & 0o077 and b"sk-" in p.read_bytes()]
    assert loose == []
    ports = listening(fresh)
    assert len(ports) >= 9  # gate, database, engine, three servers, their llama-servers
    assert {part["port"] for part in fresh.status()["parts"]} <= ports

    said = fresh.down()
    assert "Data and keys are kept" in said
    assert fresh.processes() == []
    for port in ports:
        with closing(socket.socket()) as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port
    assert fresh.corral("status", check=False).returncode == 3

    fresh.up()
    assert fresh.endpoint == endpoint
    assert fresh.key != key
    spend = float(json.loads(fresh.corral("keys", "show", key, "--json").stdout)["spend"])
    assert spend > 0  # also that of the last seconds before the stop
    fresh.client(key).chat.completions.create(model="chat", messages=QUESTION, max_tokens=4)


def test_rounds_of_up_and_down_leave_nothing(fresh: Farm) -> None:
    """UP_DOWN_ROUNDS=10 makes ten, at 14 s each on two slow cores."""
    for _ in range(int(os.environ.get("UP_DOWN_ROUNDS") or 2)):
        fresh.up()
        ports = listening(fresh)
        fresh.down()
        assert fresh.processes() == []
        for port in ports:
            with closing(socket.socket()) as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0, port


def test_a_fresh_clone_in_an_empty_home_comes_up_by_make_up(tmp_path: Path) -> None:
    """What is committed, not what lies about here; with empty caches in CI, with this user's elsewhere."""
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True, timeout=60)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CORRAL", "VIRTUAL_ENV"))}
    if not os.environ.get("CI"):
        kept.setdefault("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))

    def make(verb: str) -> str:
        result = subprocess.run(
            ["make", verb], cwd=clone, env={**kept, "HOME": str(home), "COLUMNS": "200"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    try:
        curl = next(line for line in make("up").splitlines() if line.startswith("curl "))
        answer = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(answer.stdout)["choices"][0]["message"]["content"].strip()
        assert "litellm" in make("status")
    finally:
        make("down")
    assert marked_processes(clone / ".corral") == []
    changed = subprocess.run(["git", "status", "--short"], cwd=clone, capture_output=True, text=True, check=True)
    assert changed.stdout == ""


def test_an_http_proxy_for_the_rest_of_the_world_is_no_hindrance(fresh: Farm) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        environment = {"http_proxy": proxy, "HTTP_PROXY": proxy, "https_proxy": proxy}
        fresh.up(**environment)
        answer = subprocess.run(
            ["sh", "-c", fresh.curl], env={**os.environ, **environment}, capture_output=True, timeout=60, check=True
        )
    assert json.loads(answer.stdout)["choices"]


def test_up_again_says_what_runs_and_changes_nothing(farm: Farm) -> None:
    before = {part["name"]: part["pid"] for part in farm.status()["parts"]}
    said = farm.corral("up").stdout
    assert "already running" in said
    assert "chat-1" in said
    assert "sk-" not in said
    assert {part["name"]: part["pid"] for part in farm.status()["parts"]} == before


def test_status_shows_each_part_with_pid_and_memory(farm: Farm) -> None:
    parts = farm.status()["parts"]
    assert [part["name"] for part in parts] == ["postgres", "litellm", "chat-1", "chat-2", "embed-1"]
    assert all(part["state"] == "ready" and part["memory_mib"] > 10 and part["port"] > 0 for part in parts)
    table = farm.corral("status").stdout
    for heading in ("PART", "STATE", "ADDRESS", "PID", "MEMORY", "SINCE"):
        assert heading in table


def test_logs_of_one_part_and_of_all(farm: Farm) -> None:
    assert farm.corral("logs", "chat-1").stdout.strip()
    assert re.search(r"^litellm\s", farm.corral("logs").stdout, re.MULTILINE)
    wrong = farm.corral("logs", "chat-9", check=False)
    assert wrong.returncode == 2
    assert "chat-9" in wrong.stderr
    assert "chat-1" in wrong.stderr


def test_a_llama_server_killed_with_sigkill_does_not_stop_the_next_request(farm: Farm) -> None:
    killed = {name: farm.llama_server(name) for name in ("chat-1", "chat-2")}
    for process in killed.values():
        process.kill()
    answer = farm.client().chat.completions.create(model="chat", messages=QUESTION, max_tokens=4)
    assert answer.choices[0].message.content
    for name, process in killed.items():
        wait_until(lambda name=name, process=process: farm.llama_server(name).pid != process.pid, 20, f"{name} back")
    wait_until(lambda: all(part["state"] == "ready" for part in farm.status()["parts"]), 20, "all ready")


def test_a_killed_part_is_started_again(farm: Farm) -> None:
    before = farm.part("embed-1")["pid"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: farm.part("embed-1")["pid"] not in (None, before), 20, "another gpu-server")
    wait_until(lambda: farm.part("embed-1")["state"] == "ready", 30, "embed-1 ready")
    assert farm.part("embed-1")["restarts"] >= 1
    wait_until(lambda: farm.client().embeddings.create(model="embed", input="x").data, 20, "embeddings")


def test_ctrl_c_during_up_leaves_nothing_running(fresh: Farm) -> None:
    up = subprocess.Popen(
        [CORRAL, "up"], env={**fresh.environment, "CORRAL_STATE": str(fresh.state)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_until(lambda: any("gpu-server" in " ".join(p.cmdline()) for p in fresh.processes()), 60, "a part to start")
    up.send_signal(signal.SIGINT)
    said, _ = up.communicate(timeout=40)
    assert up.returncode == 130
    assert "what this command started is stopped again" in said
    assert marked_processes(fresh.state) == []


def test_an_up_after_a_killed_keeper_clears_up_and_starts(fresh: Farm) -> None:
    fresh.up()
    keeper = json.loads((fresh.state / "run" / "state.json").read_text())["keeper_pid"]
    os.kill(keeper, signal.SIGKILL)
    fresh.up()
    assert all(part["state"] == "ready" for part in fresh.status()["parts"])


def test_a_stale_state_file_is_no_running_farm(fresh: Farm) -> None:
    (fresh.state / "run").mkdir(parents=True)
    own = os.getpid()  # a live process, but not the keeper: its start time differs
    (fresh.state / "run" / "state.json").write_text(
        json.dumps({"endpoint": "http://127.0.0.1:4000/v1", "phase": "running", "keeper_pid": own,
                    "keeper_created": 1.0, "models": [], "parts": [], "failure": None})
    )  # fmt: skip
    assert fresh.corral("status", check=False).returncode == 3
    assert "not running" in fresh.down()


def test_the_port_asked_for_that_is_taken_says_by_what(fresh: Farm) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        refused = fresh.corral("up", check=False, CORRAL_PORT=str(port))
    assert refused.returncode == 1
    assert f"port {port}" in refused.stderr
    assert f"(pid {os.getpid()})" in refused.stderr
    assert "leave CORRAL_PORT out" in refused.stderr
    assert marked_processes(fresh.state) == []


def test_a_port_that_is_none_is_bad_input(fresh: Farm) -> None:
    refused = fresh.corral("up", check=False, CORRAL_PORT="http")
    assert refused.returncode == 2
    assert "CORRAL_PORT=http is not a port" in refused.stderr


def test_a_part_that_cannot_start_ends_the_start_with_its_cause(fresh: Farm, tmp_path: Path) -> None:
    broken = tmp_path / "llama-server"
    broken.write_text(
        "#!/bin/sh\n[ \"$1\" = --list-devices ] && exit 0\necho 'error: built for another CPU' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    refused = fresh.corral("up", check=False, timeout_s=120, LLAMA_SERVER=str(broken))
    assert refused.returncode == 1
    assert re.search(r"error: (chat|embed)-\d: .*", refused.stderr)
    assert marked_processes(fresh.state) == []


def test_reset_asks_and_deletes_everything(fresh: Farm) -> None:
    (fresh.state / "run").mkdir(parents=True)
    (fresh.state / ".env").write_text("x")
    refused = fresh.corral("reset", check=False)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert (fresh.state / ".env").exists()
    fresh.corral("reset", "--yes")
    assert not fresh.state.exists()


def test_reset_does_not_delete_a_folder_that_is_no_farm(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    farm = Farm(tmp_path)
    assert farm.corral("reset", "--yes", check=False).returncode == 2
    assert (tmp_path / "precious").exists()


needs_namespaces = pytest.mark.skipif(
    not os.environ.get("CI") and (os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare")),
    reason="needs root, unshare and ip to cut the network",
)


@needs_namespaces
def test_up_and_down_work_with_the_network_cut_to_the_loopback(fresh: Farm) -> None:
    fresh.up().down()
    fresh.up().down()
    warm = int(re.search(r"ready after (\d+) s", fresh.said)[1])  # type: ignore[index]
    script = f"ip link set lo up && '{CORRAL}' up && '{CORRAL}' status && '{CORRAL}' down"
    cut = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script],
        env={**fresh.environment, "CORRAL_STATE": str(fresh.state)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert cut.returncode == 0, cut.stdout + cut.stderr
    seconds = re.search(r"ready after (\d+) s", cut.stdout)
    assert seconds is not None
    assert int(seconds[1]) <= 2 * warm + 5  # a look-up that waits for its timeout would show


def test_bad_arguments_are_refused_with_code_2() -> None:
    for arguments in (["nonsense"], ["logs", "--lines", "-3"], ["status", "--nope"]):
        assert subprocess.run([CORRAL, *arguments], capture_output=True, timeout=30, check=False).returncode == 2


def test_keys_of_a_farm_that_is_down_say_how_to_start_it(fresh: Farm) -> None:
    refused = fresh.corral("keys", "list", check=False)
    assert refused.returncode == 1
    assert "make up" in refused.stderr
