"""The wrapper itself is stopped or killed; the GPU under llama-server fails (a faked NVML says so)."""

import concurrent.futures
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from support.fake_llama import FakeLlama
from support.faults import NO_ANSWER, STALL_SLACK_S, Table, ask, ask_many, results, summary
from support.gpu_servers import GpuServer
from support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration]

Pool = concurrent.futures.Executor
Start = Callable[..., GpuServer]
FAKE_NVML = Path(__file__).resolve().parents[1] / "fakes" / "nvml"


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_sigterm_of_the_wrapper_under_load(start: Start, table: Table, pool: Pool) -> None:
    server = start(N_PARALLEL=4).ready()
    asked = ask_many(pool, server, 8, max_tokens=30, ignore_eos=True)
    wait_until(lambda: (server.status()["busy"], server.status()["queued"]) == (4, 4), 5, "work and a line")
    child = server.child()
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: server.state() == "draining", 2, "the drain")
    late = ask(server)
    saw = results(asked)
    assert server.process.wait(10) == 0
    assert gone(child)
    assert saw == ["200", "200, stream"] * 4
    assert late == "503 draining"
    table.add("SIGTERM of the wrapper under 8 requests", "real", f"{summary(saw)}; who comes later: {late}")


def test_sigterm_of_the_wrapper_over_its_drain_time(start: Start, table: Table, pool: Pool) -> None:
    server = start(N_PARALLEL=2, DRAIN_TIMEOUT_S=1).ready()
    asked = ask_many(pool, server, 4, max_tokens=1500, ignore_eos=True)
    wait_until(lambda: (server.status()["busy"], server.status()["queued"]) == (2, 2), 5, "work and a line")
    server.process.send_signal(signal.SIGTERM)
    saw = results(asked)
    assert server.process.wait(10) == 0
    assert not [seen for seen in saw if seen.startswith(NO_ANSWER)], saw
    table.add("SIGTERM of the wrapper, work longer than DRAIN_TIMEOUT_S", "real", summary(saw))


def test_kill_9_of_the_wrapper(start: Start, table: Table, pool: Pool) -> None:
    server = start(N_PARALLEL=4).ready()
    asked = ask_many(pool, server, 4, max_tokens=1500, ignore_eos=True)
    wait_until(lambda: server.status()["busy"] == 4, 5, "work")
    child = server.child()
    at = time.monotonic()
    server.process.kill()
    server.process.wait(5)
    wait_until(lambda: gone(child), 2, "llama-server to be gone", interval_s=0.01)
    took_s = time.monotonic() - at
    saw = results(asked)
    assert all(seen.startswith(NO_ANSWER) for seen in saw)  # nobody is left who could answer: they are cut at once
    table.add("kill -9 of the wrapper", "real", f"connection cut at once; llama-server gone after {took_s:.2f} s")


@pytest.fixture
def card(tmp_path: Path, start: Start) -> Iterator[tuple[GpuServer, FakeLlama, Path]]:
    """A fake llama-server on a faked card, and the file that says what the card does."""
    control = tmp_path / "nvml"
    control.write_text("")
    llama = FakeLlama(tmp_path, "--token-s", "0.05")
    server = start(LLAMA_SERVER=llama.launcher, N_PARALLEL=4, N_GPU_LAYERS=99, PYTHONPATH=FAKE_NVML, FAKE_NVML=control)
    server.ready()
    wait_until(lambda: server.metric('gpu_power_watts{gpu="GPU-0"}') == 150, 5, "the card's metrics")
    yield server, llama, control
    llama.close()


@pytest.mark.parametrize(
    ("says", "name", "cause"), [("lost", "GPU lost (NVML)", "gpu_lost"), ("xid 79", "Xid 79 (NVML)", "xid")]
)
def test_a_fault_of_the_gpu(
    card: tuple[GpuServer, FakeLlama, Path], table: Table, pool: Pool, says: str, name: str, cause: str
) -> None:
    server, llama, control = card
    asked = ask_many(pool, server, 4, max_tokens=400)
    wait_until(lambda: server.status()["busy"] == 4, 5, "work")
    llama.plan()  # the next ones do not dawdle
    with table.fault(f"{name} under 4 requests", server, cause=cause, within_s=3 + STALL_SLACK_S) as fault:
        control.write_text(says)
        wait_until(lambda: server.state() != "ready", 3 + STALL_SLACK_S, "it to be noticed", interval_s=0.01)
        control.write_text("")
        fault.saw = results(asked)
    if cause == "xid":
        assert server.metric('gpu_xid_errors_total{gpu="GPU-0",xid="79"}') == 1
