"""What follows from trials: safe rates, limits that fit, and what was full."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from corral.capacity.finding import bottleneck, finding
from corral.capacity.finding_table import show, trial_line
from corral.capacity.plot import plot
from corral.capacity.search import Search
from corral.capacity.verdict import Trial
from corral.render.k6 import ModelTarget

MODEL: ModelTarget = {
    "name": "qwen", "mode": "chat", "aliases": [], "servers": ["qwen-1", "qwen-2"], "slots": 8, "context": 4096,
    "rpm": None, "tpm": None, "objectives": {"ttft_p95_s": 5.0, "duration_p95_s": None, "error_share": 0.01},
}  # fmt: skip
HELD = Trial(100, 120, 200, 0, 0, 3, 0.8, 4.1, 6.0, 11.0, (6, 7, 7, 7), {"qwen-1": 120, "qwen-2": 80})
BROKE = replace(HELD, rate_rpm=121, ttft_p95_s=7.5, late=30, loads={"busy:qwen-1": 0.99, "busy:qwen-2": 0.97})


def searched() -> Search:
    search = Search(50)
    search.record(100, held=True)
    search.record(121, held=False)
    return search


def test_limits_follow_from_the_knee() -> None:
    found = finding(MODEL, searched(), [HELD, BROKE], unloaded_s=0.5, headroom=0.2)
    assert found.complete
    assert found.safe_rpm == pytest.approx(110 * 0.8)  # the knee is the geometric mean of 100 and 121
    assert found.by_server == {"qwen-1": pytest.approx(52.8), "qwen-2": pytest.approx(35.2)}
    assert found.rpm == 44  # of each server, half of 88
    assert found.max_queue == 4  # 55 a minute begin 0.917 requests a second, in 4.5 s
    assert found.parallel == 8  # four slots and the queue
    assert "p95 was 7.50 s" in found.reason


def loaded(**loads: float) -> Trial:
    return replace(BROKE, loads={name.replace("_", "-").replace("--", ":"): value for name, value in loads.items()})


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (BROKE, "the servers: all slots of qwen-1, qwen-2 are busy"),
        (loaded(busy__qwen_1=0.99, busy__qwen_2=0.4), "uneven servers: qwen-1 full, qwen-2 not"),
        (loaded(busy__qwen_1=0.99, busy__qwen_2=0.99, cores__litellm=0.97), "the gate: it kept 0.97 cores busy"),
        (loaded(busy__qwen_1=0.3, busy__qwen_2=0.3, machine=0.98), "this machine's CPU: 98% taken"),
        (loaded(busy__qwen_1=0.3, busy__qwen_2=0.3, machine=0.2), "none found"),
        (loaded(), "not known: the servers could not be asked"),
    ],
)
def test_the_bottleneck_is_what_is_full(trial: Trial, said: str) -> None:
    assert bottleneck(MODEL, trial).startswith(said)


def test_where_no_rate_held_nothing_is_suggested() -> None:
    search = Search(121)
    search.record(121, held=False)
    found = finding(MODEL, search, [BROKE], unloaded_s=0.5, headroom=0.2)
    assert not found.complete
    assert (found.rpm, found.parallel, found.max_queue, found.safe_rpm) == (None, None, None, None)
    console = Console(width=160, record=True)
    show(console, [found], 0.2)
    said = console.export_text()
    assert "no rate held" in said
    assert "more than 5 % began after 5 s" in said


def test_the_plot_marks_the_knee_and_the_safe_rate(tmp_path: Path) -> None:
    found = finding(MODEL, searched(), [HELD, BROKE], unloaded_s=0.5, headroom=0.2)
    plot(tmp_path / "qwen.svg", MODEL, [HELD, BROKE], found)
    drawn = (tmp_path / "qwen.svg").read_text()
    assert all(f"<!-- {label} -->" in drawn for label in ("knee", "safe: 88 a minute", "objective of p95"))


def test_a_trial_is_told_in_a_line() -> None:
    assert "100.0 a minute, 200 requests judged in 120 s: TTFT p95 4.10 s, 0 failed: " in trial_line(HELD, MODEL)
    assert "held" in trial_line(HELD, MODEL)
    assert "broke" in trial_line(replace(BROKE, cut_short=True), MODEL)
    assert "ended early" in trial_line(replace(BROKE, cut_short=True), MODEL)
