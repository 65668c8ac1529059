"""Servers that fail, streams that break and hooks that raise, on both ways."""

import pytest

from support.fake_servers import WORDS, FakeServers
from support.fast_path import CHAT, fast, refusal
from support.gate import Gate, events_of
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["f500", "f503", "f429", "refused", "timeout"])
def test_what_one_server_fails_another_answers(gate: Gate, alias: str, model: str, stream: bool) -> None:
    key = gate.new_key(key_alias=alias)
    for _ in range(3):
        answer = gate.ask({**CHAT, "model": model, "stream": stream}, key)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-litellm-model-id"] == f"{model}-good"
    rows = gate.rows_when(alias, 3)
    assert [row["completion_tokens"] for row in rows] == [WORDS] * 3


def test_a_server_that_fails_rests(gate: Gate, servers: FakeServers) -> None:
    def retried() -> int:
        return int(gate.ask({**CHAT, "model": "f500"}).headers["x-litellm-attempted-retries"])

    before = servers.asked["fails_500"]
    wait_until(lambda: retried() == 0 and servers.asked["fails_500"] > before, 10, "the failing server to rest", 0.2)
    before = servers.asked["fails_500"]
    assert [retried() for _ in range(2)] == [0, 0]
    assert servers.asked["fails_500"] == before


def test_a_model_falls_back_to_another(gate: Gate) -> None:
    answer = gate.ask({**CHAT, "model": "falls-back"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-litellm-model-id"].startswith("chat-")
    assert answer.headers["x-litellm-attempted-fallbacks"] == "1"


@pytest.mark.parametrize("stream", [False, True])
def test_a_servers_own_error(gate: Gate, alias: str, stream: bool) -> None:
    key = gate.new_key(key_alias=alias)
    answer = gate.ask({**CHAT, "model": "only-fails_400", "stream": stream}, key)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert "'temperature' is no number" in error["message"]
    if fast(gate):
        assert error == {
            "code": 400, "message": "'temperature' is no number", "type": "invalid_request_error",
            "param": "temperature",
        }  # fmt: skip
    (row,) = gate.rows_when(alias, 1)
    assert (row["status"], row["completion_tokens"], row["spend"]) == ("failure", 0, 0)


def test_when_all_servers_fail(gate: Gate, alias: str) -> None:
    key = gate.new_key(key_alias=alias)
    answer = gate.ask({**CHAT, "model": "only-fails_500"}, key)
    assert answer.status_code in (500, 429)  # 429 while its only server rests
    assert refusal(answer)
    (row,) = gate.rows_when(alias, 1)
    assert row["status"] == "failure"


@pytest.mark.parametrize("model", ["only-dies", "only-gives_up"])
def test_a_stream_that_breaks_ends_with_an_error(gate: Gate, alias: str, model: str) -> None:
    key = gate.new_key(key_alias=alias)
    answer = gate.ask({**CHAT, "model": model, "stream": True}, key)
    assert answer.status_code == 200
    *_, last = events_of(answer.text)
    assert last["error"]["message"]
    (row,) = gate.rows_when(alias, 1)
    assert row["status"] == "failure"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["before", "choosing"])
def test_a_hook_that_raises_is_said_and_holds_nothing(gate: Gate, alias: str, where: str, stream: bool) -> None:
    key = gate.new_key(key_alias=alias, max_parallel_requests=1)
    for _ in range(2):
        answer = gate.ask({**CHAT, "stream": stream, "metadata": {"raise": where}}, key)
        assert answer.status_code == 500
        assert f"the probe raises {where}" in refusal(answer)
    wait_until(lambda: gate.ask(CHAT, key).status_code == 200, 3, "its place to be free")
    rows = gate.rows_when(alias, 3)
    assert sorted(str(row["status"]) for row in rows) == ["failure", "failure", "success"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_callback_that_raises_while_it_logs_spoils_neither_answer_nor_row(
    gate: Gate, alias: str, stream: bool
) -> None:
    key = gate.new_key(key_alias=alias, max_parallel_requests=1)
    answer = gate.ask({**CHAT, "stream": stream, "metadata": {"raise": "logging"}}, key)
    assert answer.status_code == 200, answer.text
    wait_until(lambda: gate.ask(CHAT, key).status_code == 200, 3, "its place to be free")

    def logged() -> list[int]:  # of what was answered: one that comes too early is refused, and has a row too
        return [row["completion_tokens"] for row in gate.rows(alias) if row["status"] != "failure"]

    wait_until(lambda: logged() == [WORDS] * 2, 20, "both rows", 0.2)
