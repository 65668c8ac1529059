"""What clients and keepers see when a real llama-server dies, hangs or cannot start, or the wrapper is stopped."""

import concurrent.futures
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from support.gpu_servers import KEY, GpuServer, chat, environment, smollm2
from support.ports import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

Start = Callable[..., GpuServer]


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        yield threads


def ask(server: GpuServer, **fields: object) -> httpx.Response:
    """Ask one question over a connection of its own."""
    return httpx.post(
        f"http://127.0.0.1:{server.port}/v1/chat/completions",
        json=chat(**fields),
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=60,
        trust_env=False,
    )


def test_after_kill_9_of_llama_server_the_next_request_is_answered(start: Start) -> None:
    server = start().ready()
    assert ask(server).status_code == 200
    server.child().kill()
    assert ask(server).status_code == 200  # it waits for the new one, and is not turned away
    assert server.status()["generation"] == 2
    assert server.metric('gpu_server_restarts_total{cause="signal"}') == 1


def test_requests_whose_answer_had_not_begun_survive_a_kill_9(start: Start, pool: concurrent.futures.Executor) -> None:
    server = start().ready()
    asked = [pool.submit(ask, server, max_tokens=60, ignore_eos=True) for _ in range(4)]
    wait_until(lambda: (server.status()["busy"], server.status()["queued"]) == (2, 2), 5, "two at work, two in line")
    server.child().kill()
    assert [answer.result().status_code for answer in asked] == [200] * 4
    status = server.status()
    assert (status["busy"], status["queued"], status["generation"]) == (0, 0, 2)


def test_a_stream_cut_by_a_kill_9_ends_with_an_error_event(start: Start) -> None:
    server = start().ready()
    request = chat(stream=True, max_tokens=1500, ignore_eos=True)
    with server.client.stream("POST", "/v1/chat/completions", json=request) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.child().kill()
        rest = list(lines)
    assert rest[-3] == "event: error"
    assert '"code": "upstream_died"' in rest[-2]
    wait_until(lambda: server.status()["busy"] == 0, 2, "the slot")
    assert server.metric('gpu_server_requests_total{outcome="upstream_died"}') == 1


def test_a_llama_server_that_hangs_under_load_is_killed_and_replaced(
    start: Start, pool: concurrent.futures.Executor
) -> None:
    server = start(STALL_TIMEOUT_S=3).ready()
    asked = pool.submit(ask, server, max_tokens=150, ignore_eos=True)
    wait_until(lambda: server.status()["busy"] == 1, 5, "work")
    frozen = server.child()
    frozen.suspend()
    since = time.monotonic()
    wait_until(lambda: server.state() != "ready", 12, "the stall to be noticed")
    assert time.monotonic() - since < 3 + 5
    answer = asked.result()
    assert answer.status_code == 200, f"{answer.text} {server.log.read_text()[-3000:]}"
    assert not frozen.is_running() or frozen.status() == psutil.STATUS_ZOMBIE
    stalls = sum(server.metric(f'gpu_server_restarts_total{{cause="{c}"}}') for c in ("no_progress", "poll_timeout"))
    assert stalls == 1


def test_a_llama_server_that_hangs_idle_is_killed_and_replaced(start: Start) -> None:
    server = start(STALL_TIMEOUT_S=1.5).ready()
    server.child().suspend()
    wait_until(lambda: server.status()["generation"] == 2, 10, "the next one")
    assert server.metric('gpu_server_restarts_total{cause="poll_timeout"}') == 1
    assert ask(server.ready()).status_code == 200


def test_a_model_that_cannot_be_loaded_ends_in_failed_and_the_log_says_why(start: Start, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    content = bytearray(smollm2().read_bytes())
    at = content.index(b"general.architecture") + len("general.architecture") + 4 + 8
    content[at : at + 5] = b"wrong"  # "llama"
    model.write_bytes(content)
    server = start(MODEL_PATH=model)
    wait_until(lambda: server.state() == "failed", 60, "five quick deaths")
    assert server.metric('gpu_server_restarts_total{cause="exit"}') == 5
    assert "unknown model architecture" in server.client.get("/logs").text
    answer = ask(server)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "failed")
    health = server.client.get("/health").json()
    assert health["detail"].startswith("llama-server ended 5 times soon after its start, the last time by ")
    assert answer.headers["retry-after"] == "60"


def test_the_line_is_served_in_order_and_the_rest_refused(start: Start, pool: concurrent.futures.Executor) -> None:
    server = start(N_PARALLEL=1, MAX_QUEUE=2).ready()
    first = pool.submit(ask, server, max_tokens=150, ignore_eos=True)
    wait_until(lambda: server.status()["busy"] == 1, 5, "the first at work")
    waiting = []
    for queued in (1, 2):
        waiting.append(pool.submit(ask, server))
        wait_until(lambda queued=queued: server.status()["queued"] == queued, 5, f"{queued} in line")
    refused = ask(server)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert (refused.headers["x-corral-busy"], refused.headers["x-corral-queued"]) == ("1", "2")
    assert [answer.result().status_code for answer in (first, *waiting)] == [200, 200, 200]


def test_a_wait_over_its_time_is_refused(start: Start, pool: concurrent.futures.Executor) -> None:
    server = start(N_PARALLEL=1, QUEUE_TIMEOUT_S=0.3).ready()
    first = pool.submit(ask, server, max_tokens=200, ignore_eos=True)
    wait_until(lambda: server.status()["busy"] == 1, 5, "the first at work")
    late = ask(server)
    assert (late.status_code, late.json()["error"]["code"]) == (429, "queue_timeout")
    assert first.result().status_code == 200


def test_an_answer_that_takes_too_long_is_a_504(start: Start) -> None:
    server = start(FIRST_BYTE_TIMEOUT_S=0.2).ready()
    answer = ask(server, max_tokens=1000, ignore_eos=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert server.status()["busy"] == 0


def test_drain_finishes_the_work_then_stops_and_resume_brings_it_back(
    start: Start, pool: concurrent.futures.Executor
) -> None:
    server = start().ready()
    working = pool.submit(ask, server, max_tokens=150, ignore_eos=True)
    wait_until(lambda: server.status()["busy"] == 1, 5, "work")
    assert server.client.post("/drain").json() == {"state": "draining"}
    wait_until(lambda: server.state() == "draining", 1, "the drain")
    assert server.client.get("/health").status_code == 503
    refused = ask(server)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert working.result().status_code == 200
    wait_until(lambda: server.state() == "stopped" and not server.children(), 5, "llama-server gone")
    assert server.client.post("/resume").status_code == 202
    assert ask(server.ready()).status_code == 200


def test_a_drain_ends_at_its_deadline(start: Start, pool: concurrent.futures.Executor) -> None:
    server = start(DRAIN_TIMEOUT_S=0.5).ready()
    working = pool.submit(ask, server, max_tokens=1500, ignore_eos=True)
    wait_until(lambda: server.status()["busy"] == 1, 5, "work")
    server.client.post("/drain")
    answer = working.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_died")
    wait_until(lambda: server.state() == "stopped", 5, "the stop")


def test_restart_gives_a_fresh_llama_server(start: Start) -> None:
    server = start().ready()
    before = server.child().pid
    assert server.client.post("/restart").status_code == 202
    wait_until(lambda: server.status()["generation"] == 2, 10, "the next one")
    assert server.ready().child().pid != before
    assert server.metric('gpu_server_restarts_total{cause="requested"}') == 1


def test_sigterm_lets_work_finish_and_exits_0(start: Start, pool: concurrent.futures.Executor) -> None:
    server = start().ready()
    working = pool.submit(ask, server, max_tokens=150, ignore_eos=True)
    wait_until(lambda: server.status()["busy"] == 1, 5, "work")
    child = server.child()
    server.process.send_signal(signal.SIGTERM)
    assert working.result().status_code == 200
    assert server.process.wait(10) == 0
    assert not child.is_running()


def test_sigterm_while_the_model_loads_exits_0(start: Start) -> None:
    server = start()
    wait_until(lambda: server.children(), 10, "a child")
    child = server.child()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    assert not child.is_running()


def test_kill_9_of_the_wrapper_leaves_no_llama_server(start: Start) -> None:
    server = start().ready()
    child = server.child()
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE, 2, "its end")


def run(**settings: object) -> subprocess.CompletedProcess[str]:
    """Start a gpu-server that is expected to refuse."""
    command = [sys.executable, "-m", "gpu_server.main"]
    return subprocess.run(command, env=environment(**settings), capture_output=True, text=True, timeout=30, check=False)


def test_wrong_settings_stop_the_start_with_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF\x03")
    refused = run(MODEL_PATH=tmp_path / "m.gguf", N_CTXX=1, HOST="192.0.2.1")
    assert refused.returncode == 2
    lines = refused.stderr.splitlines()
    assert len(lines) == 3
    for line, words in zip(lines, (("N_CTXX", "N_CTX?"), ("MODEL_PATH", "copy"), ("API_KEY", "HOST")), strict=True):
        assert all(word in line for word in words), line


def test_a_taken_port_stops_the_start(server: GpuServer) -> None:
    refused = run(MODEL_PATH=smollm2(), PORT=server.port)
    assert refused.returncode == 2
    assert f"PORT={server.port}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "{model}", "--port", "{port}", "--frobnicate"], 2, "--frobnicate"),
        (["--model", "{corrupt}", "--port", "{port}"], 1, "{corrupt}"),
    ],
)
def test_the_embedded_engine_ends_with_a_line_that_names_the_fault(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    corrupt = tmp_path / "corrupt.gguf"
    with smollm2().open("rb") as model:
        corrupt.write_bytes(model.read(1_000_000))
    names = {"model": smollm2(), "port": free_port(), "corrupt": corrupt}
    ended = subprocess.run(
        [sys.executable, "-m", "gpu_server.embedded", *(word.format(**names) for word in arguments)],
        env=environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == code
    assert words.format(**names) in ended.stderr.splitlines()[-1]
