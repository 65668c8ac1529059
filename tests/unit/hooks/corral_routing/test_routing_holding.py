import pytest

from corral_routing.holding import HOLDING_S, Holding
from support.routing import status

SLOTS = 4


def test_a_server_of_unknown_speed_gets_the_usual_guess() -> None:
    assert Holding().mean_s(None) == HOLDING_S
    assert Holding().mean_s(status(prefill_rate=None)) == HOLDING_S


def test_one_twice_as_fast_is_guessed_to_hold_requests_half_as_long() -> None:
    slow, fast = (Holding().mean_s(status(prefill_rate=500 * times, decode_rate=30 * times)) for times in (1, 2))
    assert fast == pytest.approx(slow / 2)


def test_the_first_answer_says_as_much_as_the_guess_and_a_later_one_little() -> None:
    holding, told = Holding(), status()
    guess = holding.mean_s(told)
    holding.learn(guess + 2, 0, told)
    assert holding.mean_s(told) == pytest.approx(guess + 1)
    for _ in range(100):
        holding.learn(8, 0, told)
    before = holding.mean_s(told)
    holding.learn(before + 1, 0, told)
    assert holding.mean_s(told) == pytest.approx(before + 0.1)


@pytest.mark.parametrize("believed_s", [0.5, 20.0])
def test_time_in_line_is_not_taken_for_time_in_a_slot(believed_s: float) -> None:
    """Whatever is believed at first: a wait that was estimated too long or too short corrects the mean."""
    holding, told, held_s, before = Holding(), status(), 3.0, 6
    holding.learn(2 * believed_s - holding.mean_s(told), 0, told)
    assert holding.mean_s(told) == pytest.approx(believed_s)
    for _ in range(200):
        estimated_s = before * holding.mean_s(told) / SLOTS
        holding.learn(held_s + before * held_s / SLOTS, estimated_s, told)
    assert holding.mean_s(told) == pytest.approx(held_s, rel=0.01)
