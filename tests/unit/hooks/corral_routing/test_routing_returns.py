"""What is learnt of conversations that come back, and what it makes of a choice."""

import pytest

from corral_routing.prompt_cache import PromptCache
from corral_routing.returns import FIRST_GAP_S, FIRST_SHARE, Returns
from support.routing import Farm, chat, prompt


def test_before_anything_was_seen_a_guess_holds_and_fades_with_rest() -> None:
    returns = Returns()
    assert returns.chance(0) == pytest.approx(FIRST_SHARE)
    assert returns.gap_s == FIRST_GAP_S
    assert 1 > returns.chance(10) / FIRST_SHARE > returns.chance(60) / FIRST_SHARE > 0
    assert returns.chance(-5) == returns.chance(0)
    assert returns.chance(1e9) == pytest.approx(0)


def test_share_and_gap_are_learnt_and_what_was_long_ago_is_forgotten() -> None:
    returns = Returns()
    for number in range(1000):
        returns.answered()
        if number % 10:
            returns.continued(5.0)
    assert returns.share == pytest.approx(0.9, abs=0.02)
    assert returns.gap_s == pytest.approx(5, abs=0.1)
    for _ in range(5000):
        returns.answered()
    assert returns.share < 0.05


def test_a_cache_tells_which_prompts_are_gone_on_from_and_when() -> None:
    returns = Returns()
    kept = PromptCache(16_384, 10_000, returns)
    for turns in (1, 2, 3):
        one = prompt(chat("a", turns))
        kept.add(one, 1000, now=20.0 * turns)
        kept.answered(one, 1000, now=20.0 * turns + 5)
    kept.add(prompt(chat("b", 1)), 1000, now=100.0)  # another conversation
    before = Returns()
    for _ in range(3):
        before.answered()
    for _ in range(2):
        before.continued(15.0)
    assert returns.share == pytest.approx(before.share, rel=0.01)
    assert returns.gap_s == before.gap_s


def placed(rests_s: float, seed: int) -> str:
    """Return where a new chat goes that two servers' chats begin alike with: one rested for so long, one longer yet."""
    farm = Farm(2, seed, prefill_rate=100.0)  # so slow that what is lost is no near tie
    homes = []
    for name in ("first", "second"):
        call, server = farm.ask(chat(name, words=20), among=[farm.names[len(homes)]])
        farm.answer(call)
        homes.append(server)
        farm.now += rests_s
    return farm.ask(chat("third", words=20))[1]


def test_a_new_chat_takes_the_place_of_the_one_that_rested_longer() -> None:
    assert {placed(rests_s=60.0, seed=seed) for seed in range(6)} == {"chat-1"}


def test_what_would_be_saved_first_or_goes_on_itself_costs_nothing() -> None:
    farm = Farm(1)
    call, _ = farm.ask(chat("long", words=2000))
    farm.answer(call)
    other, going_on = (
        farm.router.pick(f"c{n}", farm.names, prompt(one), farm.now)
        for n, one in enumerate((chat("other", words=20), chat("long", 2, words=2000)))
    )
    assert other is not None
    assert going_on is not None
    assert other.chosen.cached_tokens > 0
    assert (other.chosen.loss_s, going_on.chosen.loss_s) == (0, 0)
