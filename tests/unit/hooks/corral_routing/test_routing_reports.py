from typing import Any

import pytest

from corral_routing.reports import Load, ReportError, load_of, status_of

SOUND = {
    "state": "ready", "model": "m", "mode": "chat", "slots": 4, "busy": 1, "queued": 2, "max_queue": 8,
    "context": 4096, "generation": 3, "uptime_s": 7.5, "tokens_per_second": None, "prompt_tokens_per_second": 812.5,
}  # fmt: skip


def test_a_status_is_taken_as_gpu_server_gives_it() -> None:
    status = status_of(SOUND)
    assert status.load == Load(busy=1, queued=2, slots=4)
    assert (status.state, status.max_queue, status.context, status.generation) == ("ready", 8, 4096, 3)
    assert (status.decode_rate, status.prefill_rate) == (None, 812.5)
    assert status.cache_ram_mib is None  # of an older gpu-server
    assert status_of({**SOUND, "cache_ram_mib": -1}).cache_ram_mib == -1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "superb"), ("state", None), ("busy", -1), ("busy", 10**9), ("busy", True), ("busy", "1"),
        ("busy", 1.5), ("queued", None), ("slots", 0), ("slots", float("inf")), ("context", 0), ("generation", -3),
        ("tokens_per_second", float("nan")), ("tokens_per_second", 0), ("tokens_per_second", "fast"),
        ("prompt_tokens_per_second", 1e300), ("prompt_tokens_per_second", -5.0), ("max_queue", []),
        ("cache_ram_mib", -2), ("cache_ram_mib", None),
    ],
)  # fmt: skip
def test_a_figure_that_cannot_be_true_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ReportError, match=field):
        status_of({**SOUND, field: value})


@pytest.mark.parametrize("document", [None, [], "ready", 7, [SOUND]])
def test_what_is_no_status_is_refused(document: object) -> None:
    with pytest.raises(ReportError, match="no JSON object"):
        status_of(document)


@pytest.mark.parametrize("prefix", ["", "llm_provider-"])
def test_the_load_in_headers(prefix: str) -> None:
    headers = {f"{prefix}x-corral-busy": "2", f"{prefix}x-corral-queued": 0, f"{prefix}x-corral-slots": "4"}
    assert load_of(headers) == Load(busy=2, queued=0, slots=4)


@pytest.mark.parametrize(
    "lie", [{"busy": "-1"}, {"busy": "9999999"}, {"slots": "0"}, {"queued": "²"}, {"queued": None}, {"slots": "4.0"}]
)
def test_headers_that_lie_say_nothing(lie: dict[str, Any]) -> None:
    figures = {"busy": "2", "queued": "0", "slots": "4"} | lie
    assert load_of({f"x-corral-{name}": value for name, value in figures.items()}) is None
    assert load_of({}) is None
