"""llama-server dies: nobody is left without an answer, and the next one is there after the model's load time."""

import concurrent.futures
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fake_llama import FakeLlama
from support.faults import Table, all_free, ask, ask_many, losses, results
from support.gpu_servers import GpuServer, chat, environment, smollm2
from support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration]

Pool = concurrent.futures.Executor
Start = Callable[..., GpuServer]
LONG = {"max_tokens": 40, "ignore_eos": True}


def test_kill_9_idle(real: GpuServer, table: Table) -> None:
    with table.fault("kill -9, idle", real, cause="signal") as fault:
        real.child().kill()
        fault.saw = [ask(real)]
    assert fault.saw == ["200"]


def test_kill_9_under_eight_requests(real: GpuServer, table: Table, pool: Pool) -> None:
    asked = ask_many(pool, real, 8, **LONG)
    wait_until(lambda: (real.status()["busy"], real.status()["queued"]) == (4, 4), 5, "four at work, four in line")
    with table.fault("kill -9 under 8 requests, half of them streams", real, cause="signal") as fault:
        real.child().kill()
        fault.saw = results(asked)
    assert set(fault.saw) <= {"200", "200, stream", "stream, error event upstream_died"}
    assert fault.saw[::2] == ["200"] * 4  # nothing of theirs had been sent, so they were asked again


def test_kill_9_mid_stream(real: GpuServer, table: Table) -> None:
    request = chat(stream=True, max_tokens=1500, ignore_eos=True)
    with (
        table.fault("kill -9 mid-stream", real, cause="signal") as fault,
        real.client.stream("POST", "/v1/chat/completions", json=request) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        fault.blow()
        real.child().kill()
        assert list(lines)[-3] == "event: error"
        fault.saw = ["stream, error event upstream_died"]


def test_segfault(real: GpuServer, table: Table, pool: Pool) -> None:
    asked = ask_many(pool, real, 1, **LONG)
    wait_until(lambda: real.status()["busy"] == 1, 5, "work")
    with table.fault("segmentation fault under a request", real, cause="signal") as fault:
        real.child().send_signal(signal.SIGSEGV)
        fault.saw = results(asked)
    assert fault.saw == ["200"]


def test_exit_by_itself_under_load(fake: tuple[GpuServer, FakeLlama], table: Table, pool: Pool) -> None:
    server, llama = fake
    llama.set(token_s=0.05)
    asked = ask_many(pool, server, 4, max_tokens=200)
    llama.plan("--token-s", "0")
    wait_until(lambda: llama.seen()["busy"] == 4, 5, "work")
    with table.fault("exits with code 1 under 4 requests", server, cause="exit") as fault:
        llama.end(code=1)
        fault.saw = results(asked)


def test_memory_limit(real: GpuServer, table: Table, pool: Pool) -> None:
    child = real.child()
    used = child.memory_info().vms
    with table.fault("memory limit hit (RLIMIT_AS)", real, cause="exit|signal") as fault:
        resource.prlimit(child.pid, resource.RLIMIT_AS, (used, used))
        fault.saw = results(ask_many(pool, real, 4))


def test_cuda_error_line(fake: tuple[GpuServer, FakeLlama], table: Table, pool: Pool) -> None:
    server, llama = fake
    llama.set(token_s=0.05)
    asked = ask_many(pool, server, 4, max_tokens=200)
    llama.plan("--token-s", "0")
    wait_until(lambda: llama.seen()["busy"] == 4, 5, "work")
    with table.fault("prints a CUDA error and hangs", server, cause="device_error") as fault:
        llama.set(stall="decode")
        llama.say("CUDA error: an illegal memory access was encountered")
        fault.saw = results(asked)


def test_sigterm_ignored(fake: tuple[GpuServer, FakeLlama], table: Table) -> None:
    server, llama = fake
    llama.plan("--ignore-sigterm")
    server.client.post("/drain")
    wait_until(lambda: server.state() == "stopped", 10, "the stop")
    server.client.post("/resume")
    server.ready()
    llama.plan()
    stubborn = server.child()
    with table.fault("SIGTERM ignored (POST /restart)", server, cause="requested") as fault:
        server.client.post("/restart")
        fault.saw = [ask(server)]
        assert not stubborn.is_running()
    assert fault.saw == ["200"]


def test_a_start_slower_than_expected(fake: tuple[GpuServer, FakeLlama], table: Table) -> None:
    server, llama = fake
    llama.plan("--start-s", "4")  # longer than STALL_TIMEOUT_S: loading is no stall
    with table.fault("dies, and its successor loads for 4 s", server, cause="signal") as fault:
        llama.end(signal=signal.SIGKILL)
        fault.saw = [ask(server)]
    assert fault.saw == ["200"]


def refused(**settings: object) -> str:
    """Start a gpu-server that must refuse; return what it printed."""
    command = [sys.executable, "-m", "gpu_server.main"]
    ended = subprocess.run(
        command, env=environment(**settings), capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    return line


def test_a_missing_model_stops_the_start(tmp_path: Path, table: Table) -> None:
    assert "does not exist" in refused(MODEL_PATH=tmp_path / "none.gguf")
    table.add("exit at start: missing model", "none", "gpu-server exits with 2 and says why")


def test_a_model_cut_short_stops_the_start(tmp_path: Path, table: Table) -> None:
    with smollm2().open("rb") as model:
        (tmp_path / "cut.gguf").write_bytes(model.read(50_000_000))
    assert "cut short" in refused(MODEL_PATH=tmp_path / "cut.gguf")
    table.add("exit at start: GGUF cut short", "none", "gpu-server exits with 2 and says why")


def test_a_taken_port_stops_the_start(real: GpuServer, table: Table) -> None:
    assert f"PORT={real.port}" in refused(MODEL_PATH=smollm2(), PORT=real.port)
    table.add("exit at start: port taken", "none", "gpu-server exits with 2 and says why")


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("wrong flag", {"EXTRA_ARGS": "--frobnicate"}, "--frobnicate"),
        ("corrupt GGUF", {"MODEL_PATH": "corrupt.gguf"}, "unknown model architecture"),
    ],
)
def test_a_llama_server_that_cannot_start(
    start: Start, table: Table, tmp_path: Path, name: str, settings: dict[str, str], says: str
) -> None:
    if "MODEL_PATH" in settings:
        content = smollm2().read_bytes().replace(b"llama", b"wrong", 1)
        (tmp_path / "corrupt.gguf").write_bytes(content)
        settings = {"MODEL_PATH": str(tmp_path / "corrupt.gguf")}
    server = start(**settings)
    wait_until(lambda: server.state() == "failed", 60, "five quick deaths")
    assert losses(server) == {"exit": 5}
    assert says in server.client.get("/logs").text
    saw = ask(server)
    assert saw == "503 failed"
    all_free(server)
    table.add(f"exit at start: {name}", "real", f"{saw}; /logs says why", restarts="exit 5, then one try a minute")
