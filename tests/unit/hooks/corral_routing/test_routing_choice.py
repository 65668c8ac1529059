from collections import Counter
from random import Random

import pytest

from corral_routing.choice import Candidate, Choice, Reason, choose
from support.routing import chat, prompt

IDLE = Candidate(
    name="a", requests=0, confidence=1, slots=4, holding_s=4, prefill_rate=1000, decode_rate=50, ahead_tokens=0,
    cached_tokens=0,
)  # fmt: skip


def among(*candidates: Candidate, tokens: float = 2000, heat: float = 0, seed: int = 1) -> Choice:
    return choose(candidates, tokens, heat, None, Random(seed))


def test_the_estimate_is_what_the_formula_says() -> None:
    one = IDLE._replace(requests=5, cached_tokens=500, ahead_tokens=300)
    (estimate,) = among(one).estimates
    assert estimate.wait_s == pytest.approx(2 * 4 / 4)
    assert estimate.prefill_s == pytest.approx((1500 + 300) / 1000)
    assert estimate.sharing_s == pytest.approx(0.3 * 3 * 16 / 50)
    assert estimate.first_token_s == pytest.approx(3.8)
    assert estimate.total_s == pytest.approx(2 * 2 + 1.8 + 0.288)  # who waits holds up others


def test_the_one_that_remembers_is_chosen_over_an_idle_one() -> None:
    choice = among(IDLE, IDLE._replace(name="b", requests=2, cached_tokens=1900))
    assert (choice.chosen.name, choice.reason) == ("b", Reason.CACHE)


def test_until_it_is_busier_than_reading_anew_costs() -> None:
    def chosen(requests: int) -> str:
        return among(IDLE, IDLE._replace(name="b", requests=requests, cached_tokens=1900)).chosen.name

    assert [chosen(requests) for requests in (0, 3, 4, 5, 8)] == ["b", "b", "a", "a", "a"]


def test_the_fast_one_is_chosen_for_a_long_prompt() -> None:
    assert among(IDLE._replace(prefill_rate=500), IDLE._replace(name="b", requests=1)).chosen.name == "b"


def test_prompts_under_way_are_read_first() -> None:
    assert among(IDLE._replace(ahead_tokens=3000), IDLE._replace(name="b")).chosen.name == "b"


def test_an_unknown_one_is_neither_best_nor_worst() -> None:
    unknown = IDLE._replace(name="unknown", confidence=0, requests=0)
    idle, loaded = IDLE, IDLE._replace(name="loaded", requests=8)
    by_name = {one.name: one.total_s for one in among(idle, unknown, loaded).estimates}
    assert by_name["a"] < by_name["unknown"] < by_name["loaded"]


def test_a_speed_nobody_measured_is_the_others() -> None:
    estimates = among(IDLE, IDLE._replace(name="b", prefill_rate=None)).estimates
    assert estimates[0].prefill_s == estimates[1].prefill_s


def test_near_equals_are_chosen_by_chance() -> None:
    random = Random(3)
    candidates = [IDLE._replace(name=name) for name in "abcd"]
    drawn = Counter(choose(candidates, 100, 0, None, random).chosen.name for _ in range(1000))
    assert min(drawn.values()) > 200


def test_of_near_equals_the_one_with_the_fewest_streams_writes_the_answer_soonest() -> None:
    busy = IDLE._replace(name="busy", requests=1, cached_tokens=100)  # its first token would come 0.004 s sooner
    assert {among(busy, IDLE, seed=seed).chosen.name for seed in range(20)} == {"a"}


def test_a_line_at_a_fast_server_is_left_to_others_where_a_slower_one_has_a_free_slot() -> None:
    slow, fast = IDLE._replace(name="slow", prefill_rate=800), IDLE._replace(name="fast", requests=4, prefill_rate=2000)
    estimates = among(slow, fast).estimates
    assert estimates[1].first_token_s < estimates[0].first_token_s
    assert among(slow, fast).chosen.name == "slow"


def test_two_workers_draw_the_same_server_for_a_conversation_nobody_remembers() -> None:
    candidates = [IDLE._replace(name=name) for name in "abcd"]
    drawn = Counter()
    for number in range(400):
        first, second = (prompt(chat(f"{number}", turns)) for turns in (1, 2))
        one = choose(candidates, 100, 0, first, Random(1)).chosen.name
        assert choose(candidates[::-1], 100, 0, second, Random(2)).chosen.name == one
        drawn[one] += 1
    assert min(drawn.values()) > 60


def test_a_hot_prefix_spreads_before_its_server_queues() -> None:
    def chosen(requests: int, heat: float) -> str:
        holder = IDLE._replace(name="holder", requests=requests, cached_tokens=1500)
        return among(holder, IDLE, heat=heat).chosen.name

    assert chosen(2, heat=50) == "holder"
    assert chosen(3, heat=50) == "a"  # its last slot
    assert chosen(3, heat=0) == "holder"  # one conversation, not many


def test_prompts_do_not_matter_where_none_is_remembered() -> None:
    slow = IDLE._replace(name="slow", prefill_rate=1)
    assert {among(IDLE, slow, tokens=0, seed=seed).chosen.name for seed in range(20)} == {"a", "slow"}
    assert among(IDLE._replace(requests=4), slow, tokens=0).chosen.name == "slow"


def test_the_reason_is_told() -> None:
    assert among(IDLE).reason is Reason.ONLY
    assert among(IDLE, IDLE._replace(name="b")).reason is Reason.TIE
    assert among(IDLE, IDLE._replace(name="b", requests=9)).reason is Reason.LOAD
    assert among(IDLE, IDLE._replace(name="b", requests=30, cached_tokens=900)).reason is Reason.SPREAD
