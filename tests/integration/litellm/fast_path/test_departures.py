"""Clients that leave or read slowly, and many at once, on both ways."""

import json
import socket
import threading
import time
from typing import Any

import pytest

from support.fake_servers import PROMPT_TOKENS, WORDS, FakeServers
from support.fast_path import CHAT, fast, streaming
from support.gate import Gate
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]


def test_a_client_that_leaves_a_stream(gate: Gate, servers: FakeServers, alias: str) -> None:
    key = gate.new_key(key_alias=alias, max_parallel_requests=1)
    with streaming(gate, {**CHAT, "model": "only-endless"}, key) as answer:
        received = b""
        for data in answer.iter_raw():
            received += data
            if received.count(b"data:") >= 10:
                break
    wait_until(lambda: servers.open["endless"] == 0, 1, "the server to be let go")
    wait_until(lambda: gate.ask(CHAT, key).status_code == 200, 3, "its place to be free")
    rows = gate.rows_when(alias, 2)  # one more for each that was refused before its place was free
    (row,) = (row for row in rows if row["model_group"] == "only-endless")
    assert row["completion_tokens"] >= 8
    assert row["spend"] > 0
    assert row["metadata"]["error_information"]["error_code"] == "499"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("gate", ["relayed"], indirect=True)  # on LiteLLM's own path the server computes on
def test_a_client_that_leaves_before_the_first_byte(gate: Gate, servers: FakeServers, alias: str, stream: bool) -> None:
    key = gate.new_key(key_alias=alias, max_parallel_requests=1)
    leave_before_the_first_byte(gate, servers, key, {**CHAT, "model": "only-silent", "stream": stream})
    wait_until(lambda: servers.open["silent"] == 0, 1, "the server to be let go")
    wait_until(lambda: gate.ask(CHAT, key).status_code == 200, 3, "its place to be free")
    failed, answered = sorted(gate.rows_when(alias, 2), key=lambda row: row["completion_tokens"])
    assert (failed["status"], failed["completion_tokens"], answered["completion_tokens"]) == ("failure", 0, WORDS)
    assert gate.ask({**CHAT, "model": "only-silent"}, "sk-nobody").status_code == 401  # it does not rest for that


def leave_before_the_first_byte(gate: Gate, servers: FakeServers, key: str, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    host, port = gate.url.removeprefix("http://").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + data)
        wait_until(lambda: servers.open["silent"] > 0, 10, "the server to be asked")


def test_a_client_that_reads_slowly_gets_it_all(gate: Gate) -> None:
    with streaming(gate, CHAT, gate.new_key()) as answer:
        received = b""
        for data in answer.iter_raw(chunk_size=64):
            received += data
            time.sleep(0.005)
    assert received.rstrip().endswith(b"[DONE]")


def test_many_at_once_leave_every_count_at_zero(gate: Gate, alias: str) -> None:
    key = gate.new_key(key_alias=alias)
    answers: list[int] = []

    def ask(number: int) -> None:
        answers.append(gate.ask({**CHAT, "stream": bool(number % 2), "pace_s": 0.01}, key).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [200] * 16
    rows = gate.rows_when(alias, 16)
    assert len({row["request_id"] for row in rows}) == len(rows) == 16
    assert {row["total_tokens"] for row in rows} == {PROMPT_TOKENS + WORDS}
    assert {row["model_id"] for row in rows} == {"chat-1", "chat-2"}
    if fast(gate):  # LiteLLM's own path counts a second failure of a request nowhere, and drifts
        gate.wait_idle()
