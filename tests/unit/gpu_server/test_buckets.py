"""What the histograms' boundaries can tell apart: from a data centre's card to a CPU."""

import pytest

from gpu_server import metrics


@pytest.mark.parametrize("tokens_per_s", [1, 5, 10, 30, 60, 100, 150, 250, 400, 800])
def test_the_time_between_tokens_is_known_within_a_third_or_a_half(tokens_per_s: float) -> None:
    time_s = 1 / tokens_per_s
    above = min(bound for bound in metrics._PER_TOKEN_S if bound >= time_s)
    below = max((bound for bound in metrics._PER_TOKEN_S if bound < time_s), default=0)
    assert (above - below) / above <= (0.5 if time_s < 0.5 else 0.6)


def test_boundaries_that_dashboards_of_others_know_are_there() -> None:
    of_opentelemetry = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5}
    assert of_opentelemetry <= set(metrics._PER_TOKEN_S)
    assert list(metrics._PER_TOKEN_S) == sorted(set(metrics._PER_TOKEN_S))
