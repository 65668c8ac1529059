"""When a llama-server counts as stuck."""

import pytest

from gpu_server.poller import Progress, SlotWatch, parse_counters, stall_cause
from gpu_server.states import Cause


@pytest.mark.parametrize(
    ("waiting", "moved", "answered", "cause"),
    [
        (1, 99, 99, None),
        (1, 30, 99, Cause.NO_PROGRESS),
        (0, 30, 99, None),
        (0, 99, 30, Cause.POLL_TIMEOUT),
        (1, 99, 30, Cause.POLL_TIMEOUT),
    ],
)
def test_stuck_is_work_without_progress_or_no_answer(
    waiting: int, moved: float, answered: float, cause: Cause | None
) -> None:
    progress = Progress(waiting=waiting, last=moved)
    assert stall_cause(100, progress, answered, timeout_s=60) is cause


def test_llama_servers_counters_are_read() -> None:
    text = "# HELP llamacpp:a_total Text.\n# TYPE llamacpp:a_total counter\nllamacpp:a_total 3\nllamacpp:b 0.5\nx 1\n"
    assert parse_counters(text) == {"a_total": 3.0, "b": 0.5}


def slot(number: int, task: int, decoded: int, **fields: object) -> dict[str, object]:
    marks = {"n_prompt_tokens_processed": 9, "next_token": [{"n_decoded": decoded}]}
    return {"id": number, "id_task": task, "is_processing": True, **marks, **fields}


def cause_after(*polls: list[dict[str, object]], every_s: float = 30) -> Cause | None:
    watch, at = SlotWatch(), 0.0
    for number, slots in enumerate(polls):
        at = number * every_s
        watch.see(slots, at)
    return stall_cause(at, Progress(waiting=2, last=at), at, timeout_s=60, oldest_slot=watch.oldest)


def test_one_slot_that_stands_still_is_a_stall_however_busy_the_others_are() -> None:
    stuck = [[slot(0, 7, 5), slot(1, 8, decoded)] for decoded in (1, 50, 100, 150)]
    assert cause_after(*stuck) is Cause.NO_PROGRESS
    assert cause_after(*stuck[:3]) is None


def test_slots_that_move_rest_begin_anew_or_wait_in_prefill_are_no_stall() -> None:
    moving = [[slot(0, 7, decoded)] for decoded in (1, 2, 3, 4)]
    idle = [[slot(0, 7, 5, is_processing=False)]] * 4
    anew = [[slot(0, task, 5)] for task in (1, 2, 3, 4)]
    prefill = [[slot(0, 7, 0), slot(1, 8, decoded)] for decoded in (1, 2, 3, 4)]
    for polls in (moving, idle, anew, prefill):
        assert cause_after(*polls) is None
