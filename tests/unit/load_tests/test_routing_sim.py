"""The simulator's servers behave as described, and on it the hook's router keeps what it is made for."""

from dataclasses import replace
from random import Random

import pytest
from routing_sim.__main__ import main
from routing_sim.clock import Clock
from routing_sim.engine import OVERHEAD_S, SHARING, Card, Engine, Host
from routing_sim.experiment import WORKLOADS, run
from routing_sim.memory import Memory
from routing_sim.outcome import Outcome
from routing_sim.policies import CacheAware
from routing_sim.real import fitted
from routing_sim.server import Request, SimulatedServer
from routing_sim.workloads import Talk

CARD = Card(slots=2, max_queue=1, prefill_rate=100, decode_rate=10, context=1000, tokens_kept=0)
WORKLOAD = {one.name: one for one in WORKLOADS}
CHATS, PROMPTS = WORKLOAD["chats"], WORKLOAD["one-shot prompts"]
UNEVEN, LOST = WORKLOAD["uneven servers, nearly full"], WORKLOAD["chats, a server lost for 60 s"]


def served(server: SimulatedServer, clock: Clock, *requests: Request) -> list[str]:
    took = [server.take(request, lambda _request: None) for request in requests]
    clock.run(clock.now + 1000)
    return took


def test_prompts_are_read_one_after_another_and_at_the_servers_speed() -> None:
    clock = Clock()
    server = SimulatedServer("a", replace(CARD, batch=400), clock, speed=2.0)
    one, other = (Talk(Random(1), number, None).says(400, 10) for number in (1, 2))
    served(server, clock, one, other)
    assert one.first_token == pytest.approx(2 + OVERHEAD_S)
    assert other.first_token == pytest.approx(4 + OVERHEAD_S)


def engine(host: Host | None = None) -> tuple[Clock, Engine, dict[str, float]]:
    clock = Clock()
    return clock, Engine(clock, replace(CARD, batch=100), 1.0, host), {}


def test_a_stream_gets_a_token_a_batch_while_a_prompt_is_read() -> None:
    clock, one, ends = engine()
    one.write(10, lambda: ends.update(stream=clock.now))
    clock.run(0.5)
    one.read(495, 4.95, lambda: ends.update(prompt=clock.now))
    clock.run(100)
    assert ends["prompt"] == pytest.approx(0.5 + 0.05 + 4.95)  # after half of the step under way
    assert ends["stream"] == pytest.approx(0.5 + 0.05 + 4.95)


def test_prompts_whose_ends_share_a_batch_are_read_together() -> None:
    """As a llama-server with batches of 512 answered: 670 tokens, and 353 that came while those were read."""
    clock, one, ends = engine()
    one.read(130, 1.3, lambda: ends.update(long=clock.now))
    clock.run(0.2)
    one.read(70, 0.7, lambda: ends.update(short=clock.now))
    one.read(50, 0.5, lambda: ends.update(last=clock.now))
    clock.run(100)
    assert (ends["long"], ends["short"], ends["last"]) == pytest.approx((2.0, 2.0, 2.5))


def test_servers_of_one_machine_slow_each_other_while_both_compute() -> None:
    host = Host(0.5)
    clock, one, ends = engine(host)
    other = Engine(clock, CARD, 1.0, host)
    one.read(100, 2.0, lambda: ends.update(one=clock.now))
    clock.run(1)
    other.read(100, 2.0, lambda: ends.update(other=clock.now))
    clock.run(100)
    assert ends["one"] == pytest.approx(1 + 1.5)
    assert ends["other"] == pytest.approx(1 + 1.5 + 1)


def test_tokens_far_back_cost_more() -> None:
    card = replace(CARD, reach=0.001)
    assert card.prefill_s(0, 1000) == pytest.approx(15)
    assert card.prefill_s(0, 500) + card.prefill_s(500, 1000) == pytest.approx(15)


def test_three_prompts_give_speed_reach_and_overhead() -> None:
    card = replace(CARD, prefill_rate=400, reach=0.0005)
    points = [(tokens, 0.02 + card.prefill_s(0, tokens)) for tokens in (40, 400, 1100)]
    assert fitted(points) == pytest.approx((400, 0.0005, 0.02))
    rate, reach, overhead_s = fitted([(40, 0.12), (400, 1.02), (1100, 2.6)])  # the last one quicker than it can be
    assert (reach, overhead_s >= 0) == (0, True)
    assert rate == pytest.approx(1060 / 2.48)


def test_who_waits_in_line_is_told_of_its_own_beginning() -> None:
    clock, began = Clock(), []
    server = SimulatedServer("a", replace(CARD, slots=1), clock)
    one, other = (Talk(Random(1), number, None).says(100, 10) for number in (1, 2))
    server.take(one, lambda _request: began.append("one"))
    server.take(other, lambda _request: began.append("other"))
    clock.run(100)
    assert began == ["one", "other"]


def test_slots_and_the_line_are_bounded() -> None:
    clock = Clock()
    requests = [Talk(Random(1), number, None).says(100, 10) for number in range(4)]
    assert served(SimulatedServer("a", CARD, clock), clock, *requests) == ["taken", "taken", "taken", "full"]
    assert requests[2].first_token is not None
    assert requests[2].first_token > 2


def test_streams_slow_each_other() -> None:
    clock, ends = Clock(), []
    server = SimulatedServer("a", replace(CARD, prefill_rate=1e9), clock)
    requests = [Talk(Random(1), number, None).says(1, 100) for number in (1, 2)]
    for request in requests:
        request.done = lambda _request, _well: ends.append(clock.now)
    served(server, clock, *requests)
    assert ends[-1] == pytest.approx(100 * (1 + SHARING) / 10, abs=0.1)


def test_a_next_turn_finds_prompt_and_answer_and_a_full_memory_forgets() -> None:
    clock = Clock()
    server = SimulatedServer("a", CARD, clock)
    talk = Talk(Random(1), 1, (0, 200))
    first, second = talk.says(100, 50), talk.says(30, 50)
    served(server, clock, first)
    served(server, clock, second)
    assert (first.cached, second.cached) == (0, 350)
    for number in (2, 3):
        served(server, clock, Talk(Random(1), number, None).says(900, 50))
    third = talk.says(30, 50)
    served(server, clock, third)
    assert third.cached == 0


def test_a_prompt_in_a_slot_that_works_serves_nobody_else() -> None:
    clock = Clock()
    server = SimulatedServer("a", CARD, clock)
    one, other, later = (Talk(Random(1), number, (0, 200)).says(100, 10) for number in (1, 2, 3))
    served(server, clock, one, other)
    assert (one.cached, other.cached) == (0, 0)
    served(server, clock, later)
    assert later.cached == 200


def test_what_a_shared_beginning_costs_the_prompt_it_is_taken_from() -> None:
    """Where more than half of it survives it is not saved: its rest is overwritten. What is saved is found again."""
    memory = Memory(slots=1, host_tokens=10_000)
    short, long, other = Talk(Random(1), 1, (0, 200)), Talk(Random(1), 2, (0, 200)), Talk(Random(1), 3, None)
    found = []
    turns = ((short, 100), (long, 700), (other, 300), (long, 10), (short, 10))
    for one in (talk.says(tokens, 10) for talk, tokens in turns):
        slot, cached = memory.begin(one.prompt, one.tokens)
        memory.end(slot, one.prompt, one.tokens, one.answer_tokens)
        found.append(cached)
    assert found == [0, 200, 0, 910, 200]


def test_a_failure_ends_its_requests_and_forgets() -> None:
    clock, ended = Clock(), []
    server = SimulatedServer("a", CARD, clock)
    request = Talk(Random(1), 1, None).says(100, 10)
    request.done = lambda _request, well: ended.append(well)
    server.take(request, lambda _request: None)
    server.fail(down_s=5)
    assert ended == [False]
    assert server.take(request, lambda _request: None) == "down"
    clock.run(10)
    assert server.take(request, lambda _request: None) == "taken"
    assert server.generation == 2


def test_smg_sends_a_prompt_where_its_beginning_went_first_and_others_to_the_least_busy() -> None:
    smg, names = CacheAware(), ["a", "b", "c"]
    talk = Talk(Random(1), 1, (0, 200))
    first, second = talk.says(300, 50), talk.says(30, 50)
    others = [Talk(Random(1), number, None).says(100, 10) for number in range(2, 5)]
    chosen = [smg.pick("", 0, one, names) for one in (first, others[0], second, others[1], others[2])]
    assert chosen == ["a", "b", "a", "c", "b"]
    alike = Talk(Random(1), 9, (0, 200)).says(2000, 10)  # less than 0.3 of it is known
    assert smg.pick("", 0, alike, names) == "c"


def outcome(workload: object, policy: str, servers: int = 8, seconds: float = 900) -> Outcome:
    return run(workload, policy, servers, seed=3, until=seconds, workers=2, card=Card())  # type: ignore[arg-type]


def test_chats_are_answered_sooner_than_by_least_busy_and_read_less() -> None:
    ours, theirs = outcome(CHATS, "corral"), outcome(CHATS, "least-busy")
    assert ours.answered == theirs.answered > 100
    assert ours.ttft_median_s <= theirs.ttft_median_s / 3
    assert ours.ttft_p95_s <= theirs.ttft_p95_s * 0.7  # new chats wait for a system prompt that no idle slot has
    assert ours.prefilled_tokens <= theirs.prefilled_tokens * 0.4
    assert ours.cached_of_best >= 0.85


def test_single_prompts_spread_evenly_and_by_speed() -> None:
    assert outcome(PROMPTS, "corral", seconds=600).uneven < 0.15
    assert outcome(replace(UNEVEN, prompt_each_s=3.4), "corral", 6, 400).uneven < 0.15


def test_a_lost_server_fails_no_request_that_can_be_tried_again() -> None:
    ours = outcome(replace(LOST, lost_at=300), "corral")
    assert ours.refused == 0
    assert ours.failed <= 4  # streams that had begun on it


@pytest.mark.parametrize("policy", ["corral", "least-busy"])
def test_the_same_seed_gives_the_same_figures(policy: str) -> None:
    assert outcome(CHATS, policy, 3, 300) == outcome(CHATS, policy, 3, 300)


def test_a_batch_of_the_servers_size_is_simulated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def table(batch: str) -> str:
        given = ["--servers", "2", "--seconds", "200", "--workloads", "bursts of 16", "--policies", "least-busy"]
        monkeypatch.setattr("sys.argv", ["routing_sim", *given, "--batch", batch])
        main()
        return capsys.readouterr().out

    assert table("512") != table("16")
    with pytest.raises(SystemExit):
        table("0")
    assert "--batch" in capsys.readouterr().err
