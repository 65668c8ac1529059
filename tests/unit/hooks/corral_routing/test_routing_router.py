from collections import Counter

import pytest

from corral_routing.reports import Load
from corral_routing.router import FullError, Usage
from corral_routing.servers import STALE_S
from support.routing import Farm, chat, prompt, status


def test_a_chat_stays_where_it_is_remembered() -> None:
    farm = Farm(8)
    assert len({farm.turn(chat("a", turns)) for turns in range(1, 11)}) == 1


def test_chats_spread() -> None:
    farm = Farm(4)
    servers = Counter(farm.ask(chat(f"chat {number}"))[1] for number in range(16))
    assert set(servers.values()) == {4}


def test_without_a_prompt_the_least_busy_is_chosen() -> None:
    farm = Farm(3)
    farm.report("chat-1", status(busy=4))
    farm.report("chat-2", status(busy=4, queued=3))
    assert farm.ask()[1] == "chat-3"


@pytest.mark.parametrize("state", ["draining", "failed", "stopped", "starting", "restarting"])
def test_one_that_is_not_ready_gets_nothing_while_another_is(state: str) -> None:
    farm = Farm(2)
    farm.report("chat-1", status(state=state))
    assert {farm.ask(chat(f"{number}"))[1] for number in range(6)} == {"chat-2"}


def test_a_model_whose_only_server_restarts_waits_for_it() -> None:
    farm = Farm(2)
    farm.report("chat-1", status(state="restarting"))
    farm.report("chat-2", status(state="failed"))
    assert farm.ask(chat("a"))[1] == "chat-1"


def test_when_none_can_serve_the_choice_is_left_to_others() -> None:
    farm = Farm(2, state="failed")
    assert farm.router.pick("call", farm.names, None, farm.now) is None


def test_a_restart_forgets_what_the_server_remembered() -> None:
    farm = Farm(2)
    server = farm.turn(chat("a"))
    farm.report(server, status(generation=2))
    assert farm.router.caches[server].nodes == 0


def test_a_failure_moves_the_chat_and_it_stays_there() -> None:
    farm = Farm(3)
    farm.turn(chat("a", 1))
    call, server = farm.ask(chat("a", 2))
    farm.router.failed(call, farm.now, full=False)
    others = {farm.turn(chat("a", turns)) for turns in (2, 3, 4)}
    assert len(others) == 1
    assert server not in others


def test_all_full_is_said_once_with_a_time() -> None:
    farm = Farm(2, busy=4, queued=8)
    with pytest.raises(FullError) as refused:
        farm.router.pick("call", farm.names, prompt(chat("a")), farm.now)
    assert 1 <= refused.value.retry_after_s <= 60


def test_own_requests_fill_servers_too() -> None:
    farm = Farm(2, slots=2, max_queue=1)
    farm.now += 0.1
    for _ in range(6):
        farm.ask()
    with pytest.raises(FullError):
        farm.ask()


def test_a_full_one_is_left_out_even_if_it_remembers() -> None:
    farm = Farm(2)
    server = farm.turn(chat("a", 1))
    farm.report(server, status(busy=4, queued=8))
    assert farm.ask(chat("a", 2))[1] != server


def test_old_news_of_fullness_refuses_nothing() -> None:
    farm = Farm(2, busy=4, queued=8)
    farm.now += STALE_S + 1
    assert farm.ask()[1] in farm.names


def test_a_retry_takes_the_place_of_its_first_try() -> None:
    farm = Farm(2)
    first = farm.router.pick("call", ["chat-1"], None, farm.now)
    second = farm.router.pick("call", ["chat-2"], None, farm.now)
    assert first is not None
    assert second is not None
    assert farm.router.servers["chat-1"].requests() == 0
    assert farm.router.servers["chat-2"].requests() == 1


def test_answers_teach_how_long_tokens_are() -> None:
    farm = Farm(1)
    messages = chat("a")
    for _ in range(60):
        call, _ = farm.ask(messages)
        farm.router.ended(call, Usage(prompt_tokens=prompt(messages).chars[-1] // 2), farm.now)
    assert farm.router.chars_per_token == pytest.approx(2, abs=0.05)


def test_an_answer_that_missed_the_cache_corrects_the_model() -> None:
    farm = Farm(1, slots=1, context=1000)
    before = farm.router.caches["chat-1"].budget
    farm.turn(chat("a", 1))
    farm.turn(chat("b", 1))
    call, _ = farm.ask(chat("a", 2))
    farm.answer(call, cached=0)
    assert farm.router.caches["chat-1"].budget < before


def test_calls_nobody_picked_for_are_taken_in_silence() -> None:
    farm = Farm(1)
    farm.router.began("?", Load(1, 0, 4), farm.now)
    assert farm.router.ended("?", Usage(), farm.now) is None
    assert farm.router.failed("?", farm.now, full=True) is None
    assert farm.router.left("?", farm.now) is None


def test_servers_taken_out_of_the_farm_are_forgotten() -> None:
    farm = Farm(3)
    call, server = farm.ask(chat("a"))
    farm.router.keep(set(farm.names) - {server})
    assert farm.router.ended(call, Usage(100), farm.now) is None
    assert server not in farm.router.servers


def test_requests_that_never_end_do_not_pile_up() -> None:
    farm = Farm(2)
    for number in range(21_000):
        farm.router.pick(f"{number}", farm.names, None, farm.now)
        if number % 8 == 0:
            farm.now += 1
            for name in farm.names:
                farm.report(name, status())
    assert len(farm.router.picks) == 20_000


def test_bursts_over_equal_servers_are_even() -> None:
    farm = Farm(8)
    servers: Counter[str] = Counter()
    for burst in range(20):
        calls = [farm.ask(chat(f"{burst}-{number}")) for number in range(24)]
        servers.update(server for _, server in calls)
        for call, _ in calls:
            farm.answer(call, took_s=0.01)
        farm.now += 1
        for name in farm.names:
            farm.report(name, status())
    assert set(servers.values()) == {60}
