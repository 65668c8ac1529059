"""The simulator beside real servers; `make routing-sim ARGS=--validate` compares its times too, on a quiet machine."""

import pytest
from routing_sim.validate import TOLERANCE, compare

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


def test_a_conversation_finds_as_much_in_simulated_caches_as_in_real_ones() -> None:
    measured, found = compare(1, 4, seed=1, each_s=0.1, rounds=1, drifts=False)
    assert len(measured.cards) == 2
    by_turns, routed = found
    for one in found:
        assert one.real.answers == one.simulated.answers == 4
        assert abs(one.cached_error) < TOLERANCE
        assert one.simulated.ttft_mean_s > 0
    assert (by_turns.real.moved, routed.real.moved) == (3, 0)
    assert (by_turns.simulated.moved, routed.simulated.moved) == (3, 0)
    assert routed.real.cached_share > by_turns.real.cached_share + 0.2
