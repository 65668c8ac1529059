import tracemalloc

from corral_routing.prompt_cache import NOTHING, PromptCache
from corral_routing.returns import Returns
from support.routing import chat, prompt


def cache(context: int = 16_384, nodes: int = 10_000) -> PromptCache:
    return PromptCache(context, nodes, Returns())


def test_a_next_turn_finds_all_but_what_is_new() -> None:
    kept = cache()
    first, second = prompt(chat("a", 1)), prompt(chat("a", 2))
    kept.add(first, 1000, 0)
    assert kept.match(second).depth == 2  # the answer was not generated yet
    kept.answered(first, 1050, 0)
    assert kept.match(second).depth == 3
    assert kept.match(second).chars == second.chars[2]


def test_another_conversation_finds_the_system_prompt_only() -> None:
    kept = cache()
    kept.add(prompt(chat("a", 4)), 4000, 0)
    kept.over(prompt(chat("a", 4)), 0)
    assert kept.match(prompt(chat("b", 4))).depth == 1
    assert cache().match(prompt(chat("b", 4))) == NOTHING


def test_while_a_slot_works_on_a_prompt_no_other_can_begin_with_it() -> None:
    kept = cache()
    one = prompt(chat("a", 1))
    kept.add(one, 1000, 0)
    assert kept.match(prompt(chat("b", 1))) == NOTHING
    assert kept.match(prompt(chat("a", 2))).depth == 2  # its own next turn: its end was not told
    kept.over(one, 0)
    kept.over(one, 0)
    assert kept.match(prompt(chat("b", 1))).depth == 1
    kept.add(prompt(chat("a", 2)), 2000, 0)  # moves on into its slot
    assert kept.match(prompt(chat("b", 1))) == NOTHING
    kept.over(prompt(chat("unknown")), 0)
    assert kept.nodes == 0


def test_a_longer_turn_takes_the_place_of_the_one_before() -> None:
    kept = cache()
    for turns in (1, 2, 3):
        kept.add(prompt(chat("a", turns)), 1000 * turns, 0)
    assert len(kept) == 1
    assert kept.tokens == 3000


def test_the_least_recently_used_goes_first() -> None:
    kept = cache(context=1000)
    for name in "abcd":
        kept.add(prompt(chat(name)), 1000, 0)
    kept.add(prompt(chat("a")), 1000, 0)
    kept.add(prompt(chat("e")), 1000, 0)
    assert [name for name in "abcde" if kept.match(prompt(chat(name))).depth == 2] == ["a", "c", "d", "e"]
    assert kept.tokens <= kept.budget


def test_a_prompt_that_was_not_processed_is_forgotten_and_what_it_shared_stays() -> None:
    kept = cache()
    kept.add(prompt(chat("a")), 1000, 0)
    kept.over(prompt(chat("a")), 0)
    kept.add(prompt(chat("b")), 1000, 0)
    kept.over(prompt(chat("b")), 0)
    kept.forget(prompt(chat("b")))
    assert kept.match(prompt(chat("b"))).depth == 1
    assert kept.match(prompt(chat("a"))).depth == 2


def test_a_restart_empties_it() -> None:
    kept = cache()
    kept.add(prompt(chat("a")), 1000, 0)
    kept.clear()
    assert (len(kept), kept.nodes, kept.tokens) == (0, 0, 0)


def test_a_miss_shrinks_what_it_is_believed_to_hold_and_hits_at_the_edge_let_it_grow() -> None:
    kept = cache(context=1000)
    before = kept.budget
    kept.learn(expected_tokens=500, found_tokens=0, distance=2000)
    assert kept.budget == 1800
    for _ in range(100):
        kept.learn(expected_tokens=500, found_tokens=500, distance=10**6)
    assert before < kept.budget <= 32_000
    kept.learn(expected_tokens=500, found_tokens=0, distance=10)  # pushed out by something else than capacity
    assert kept.budget > 1800


def test_it_never_believes_less_than_the_slots_hold() -> None:
    kept = cache(context=1000)
    for distance in (3000, 2000, 1500, 1100, 1001):
        kept.learn(500, 0, distance)
    assert kept.budget >= 1000


def test_however_many_conversations_fit_into_50_mb() -> None:
    kept = [cache(100_000_000, 12_500) for _ in range(2)]  # of 8: a quarter of the memory
    tracemalloc.start()
    for number in range(9_000):
        one = prompt([{"role": "user", "content": f"{number}-{turn}"} for turn in range(3)])
        kept[number % 2].add(one, 100, 0)
        kept[number % 2].over(one, 0)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 50_000_000 / 4
    assert all(12_000 < one.nodes <= 12_500 for one in kept)  # more would push others out


def test_counts_stay_right_under_a_long_mix() -> None:
    kept = cache(context=3000)
    for number in range(2000):
        name, turns = f"c{number * 7919 % 23}", number % 5 + 1
        one = prompt(chat(name, turns, words=3))
        kept.add(one, 100 * turns, 0)
        if number % 3 == 0:
            kept.answered(one, 100 * turns + 20, 0)
        if number % 11 == 0:
            kept.forget(one)
    while len(kept) > 1:
        kept.resize(1)
        kept.budget = 0
        kept.add(prompt(chat("last")), 1, 0)
    kept.forget(prompt(chat("last")))
    assert (len(kept), kept.nodes, kept.tokens) == (0, 0, 0)


def test_a_server_without_host_memory_holds_what_its_slots_do_and_learns_no_more() -> None:
    kept = cache(context=1000)
    kept.resize(1000, 0)
    assert kept.budget == 1000
    kept.learn(expected_tokens=500, found_tokens=500, distance=10**6)
    assert kept.budget == 1000
    kept.resize(2000, 0)
    assert kept.budget == 2000
    kept.resize(2000, 512)
    assert kept.budget > 2000
    learnt = kept.budget = 5000
    kept.resize(2000, 512)
    assert kept.budget == learnt
