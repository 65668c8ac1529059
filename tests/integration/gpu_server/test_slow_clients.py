"""Clients that do not read, and clients that are sent away: what a small model is too slow to show, on a plain fake."""

import concurrent.futures
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from support.gpu_servers import KEY, GpuServer, chat
from support.plain_llama import executable
from support.waiting import wait_until

pytestmark = pytest.mark.integration

Start = Callable[..., GpuServer]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def begin_stream(server: GpuServer) -> socket.socket:
    """Ask for an endless stream, with room for little of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect(("127.0.0.1", server.port))
    body = json.dumps(chat(stream=True))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
    return client


def read_to_end(client: socket.socket) -> None:
    while client.recv(65536):
        continue


def stalled(server: GpuServer) -> float:
    return server.metric('gpu_server_requests_total{outcome="client_stalled"}')


def test_a_client_that_stops_reading_is_cut_off_and_costs_little_memory(
    start: Start, tmp_path: Path, opened: ExitStack
) -> None:
    server = start(LLAMA_SERVER=executable(tmp_path), STALL_TIMEOUT_S=2, N_PARALLEL=4).ready()
    wrapper = psutil.Process(server.process.pid)
    before = wrapper.memory_info().rss
    clients = [opened.enter_context(begin_stream(server)) for _ in range(4)]
    wait_until(lambda: server.status()["busy"] == 4, 5, "four streams")
    wait_until(lambda: stalled(server) == 4, 15, "all to be cut off")
    assert wrapper.memory_info().rss - before < 16 * 2**20
    wait_until(lambda: server.status()["busy"] == 0, 1, "the slots")
    wait_until(lambda: server.log.read_text().count("stream dropped") == 4, 5, "llama-server to stop working on it")
    for client in clients:
        with pytest.raises(ConnectionResetError):
            read_to_end(client)
    assert server.status()["generation"] == 1  # llama-server did nothing wrong
    assert "ASGI" not in server.log.read_text()


def test_a_client_that_reads_now_and_then_is_served(start: Start, tmp_path: Path) -> None:
    server = start(LLAMA_SERVER=executable(tmp_path), STALL_TIMEOUT_S=1).ready()
    with begin_stream(server) as client:
        for number in range(6):
            read = 0
            while read < 200_000:
                read += len(client.recv(65536))
            wait_until(lambda number=number: server.status()["uptime_s"] > number, 10, "time to pass")
        assert server.status()["busy"] == 1
        assert stalled(server) == 0
    wait_until(lambda: server.status()["busy"] == 0, 1, "the slot")


def test_retry_after_is_what_the_line_takes_at_the_measured_speed(start: Start, tmp_path: Path) -> None:
    server = start(LLAMA_SERVER=executable(tmp_path), N_PARALLEL=8, MAX_QUEUE=16).ready()

    def ask(seconds: float) -> httpx.Response:
        url = f"http://127.0.0.1:{server.port}/v1/responses"
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.post(url, json={"seconds": seconds}, headers=headers, timeout=30, trust_env=False)

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        assert all(answer.status_code == 200 for answer in pool.map(ask, [2] * 16))
        full = [pool.submit(ask, 2) for _ in range(24)]
        wait_until(lambda: (server.status()["busy"], server.status()["queued"]) == (8, 16), 5, "a full line")
        refused = ask(2)
        assert refused.status_code == 429
        # 16 before it and itself, 2 s each, 8 at a time; the first of them are under way already
        assert refused.headers["retry-after"] == "4"
        assert all(future.result().status_code == 200 for future in full)
