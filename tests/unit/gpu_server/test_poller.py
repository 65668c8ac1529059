"""When a llama-server counts as stuck."""

import pytest

from gpu_server.poller import Progress, parse_counters, stall_cause
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
