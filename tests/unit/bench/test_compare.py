"""Comparison of two runs: what is a regression, and what is chance."""

import random

import pytest

from corral.bench.compare import compare, ratio_of_medians

KEY = ("ttft_ms", "chat")


def values(seed: int, median: float, count: int = 120) -> list[float]:
    """Values that follow one another: each keeps half of what the last one deviated."""
    chance, deviation, found = random.Random(seed), 0.0, []
    for _ in range(count):
        deviation = 0.5 * deviation + chance.gauss(0, 0.2)
        found.append(median * 2.718281828**deviation)
    return found


def test_twice_as_slow_is_found() -> None:
    (found,) = compare({KEY: values(1, 100)}, {KEY: values(2, 200)})
    assert found.interval.ratio == pytest.approx(2, rel=0.25)
    assert found.interval.low < found.interval.ratio < found.interval.high
    assert found.regressed(0.05)
    assert not found.improved(0.05)


def test_twice_as_fast_is_an_improvement_and_no_regression() -> None:
    (found,) = compare({KEY: values(1, 200)}, {KEY: values(2, 100)})
    assert found.improved(0.05)
    assert not found.regressed(0.05)


def test_the_interval_covers_the_true_ratio_and_seldom_calls_chance_a_regression() -> None:
    inside = called = 0
    for seed in range(20):
        (found,) = compare({KEY: values(seed, 100)}, {KEY: values(seed + 1000, 100)})
        inside += found.interval.low <= 1 <= found.interval.high
        called += found.regressed(0.0)
    assert inside >= 16  # 19 of 20 are meant; 150 other seeds gave 93 %
    assert called <= 3


def test_too_few_values_and_metrics_of_one_run_alone_are_left_out() -> None:
    other = ("duration_ms", "chat")
    assert compare({KEY: [1.0] * 4, other: [1.0] * 9}, {KEY: [1.0] * 9}) == []


def test_nothing_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        ratio_of_medians([], [1.0])
