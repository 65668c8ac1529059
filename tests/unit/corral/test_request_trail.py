"""A request's lines out of all logs, and no other's."""

import json
from pathlib import Path

import pytest

from corral.errors import CorralError
from corral.paths import StateDir
from corral.request_trail import FileLogs, HeldLogs, follow, parse

ID = "5606de1b-78e1-4fbe-bd7c-004b31173f78"


def at(second: float) -> str:
    return f"2026-11-21T20:58:{second:06.3f}+00:00"


def task(number: int, start: float, end: float, made: int) -> list[str]:
    head = "chat-1 llama-server 0.1 I slot"
    return [
        f"{at(start)} {head} get_availabl: id 1 | task -1 | selected slot by LRU",
        f"{at(start)} {head} launch_slot_: id 1 | task {number} | processing task, is_child = 0",
        f"{at(end)} {head} print_timing: id 1 | task {number} | prompt eval time = 40.80 ms / {made + 1} tokens",
        f"{at(end)} {head} print_timing: id 1 | task {number} |        eval time = 185.78 ms / {made} tokens",
    ]


def request(request_id: str, end: float, duration_ms: float, made: int) -> str:
    return f"{at(end)} chat-1 request model=chat id={request_id} status=200 tokens_out={made} duration_ms={duration_ms}"


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path)
    state.create()
    gate = {"time": at(12.01), "server": "gate", "event": "request", "id": ID, "to": "chat-1", "duration_ms": 2010}
    state.log_file("litellm").write_text(f"INFO: POST /v1/chat 200\n{json.dumps(gate)}\n{{broken\n[1]\n")
    return state


def tasks_in(state: StateDir, *lines: str) -> tuple[set[str | None], list[str]]:
    state.log_file("chat-1").write_text("\n".join([*lines, request(ID, 12, 2000, 8), ""]))
    trail = follow(FileLogs(state), ID)
    assert [line.part for line in trail.lines if line.event == "request"] == ["chat-1", "litellm"]
    assert trail.lines == sorted(trail.lines, key=lambda line: line.time)
    return {line.task for line in trail.lines} - {None}, trail.unsure


def test_the_task_of_its_time_is_its_own(state: StateDir) -> None:
    assert tasks_in(state, *task(31, 5, 6, 8), *task(32, 10.1, 11.9, 8), *task(33, 14, 15, 8)) == ({"32"}, [])


def test_of_two_tasks_at_once_the_one_that_made_as_many_tokens(state: StateDir) -> None:
    assert tasks_in(state, *task(32, 10.1, 11.9, 8), *task(33, 10.2, 11.8, 9)) == ({"32"}, [])


def test_which_of_two_alike_is_not_guessed(state: StateDir) -> None:
    assert tasks_in(state, *task(32, 10.1, 11.9, 8), *task(33, 10.2, 11.8, 8)) == (set(), ["chat-1"])


def test_a_rotated_log_counts(state: StateDir) -> None:
    log = state.log_file("chat-1")
    log.with_name("chat-1.log.1").write_text("\n".join([*task(32, 10.1, 11.9, 8), ""]))
    assert tasks_in(state) == ({"32"}, [])


def test_an_id_that_begins_like_it_is_another(state: StateDir) -> None:
    state.log_file("chat-1").write_text(f"{request(ID + '0', 12, 2000, 8)}\n{request(ID, 12, 2000, 8)}\n")
    assert len(follow(FileLogs(state), ID).lines) == 2


@pytest.mark.parametrize(("request_id", "code"), [("nobody-asked", 1), ("a b", 2), ("", 2), ("x" * 200, 2)])
def test_what_is_nowhere_or_no_id_is_said(state: StateDir, request_id: str, code: int) -> None:
    with pytest.raises(CorralError) as refused:
        follow(FileLogs(state), request_id)
    assert refused.value.exit_code == code
    assert "x-litellm-call-id" in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"time": 3}', '{"time": "now"}', "2026-99-99T1 a b c", "plain words"]
)
def test_other_lines_are_passed_over(text: str) -> None:
    assert parse("chat-1", text) is None


def test_logs_of_containers_are_followed_as_files_are(state: StateDir) -> None:
    expected = tasks_in(state, *task(32, 10.1, 11.9, 8))
    held = HeldLogs({file.stem: file.read_text().splitlines() for file in state.logs.glob("*.log")})
    trail = follow(held, ID)
    assert ({line.task for line in trail.lines} - {None}, trail.unsure) == expected
    assert {line.part for line in trail.lines} == {"chat-1", "litellm"}
