"""The search finds the knee of queues whose knee is known from theory."""

import heapq
import math
import random
from statistics import median

import pytest

from corral.capacity.arrivals import arrivals
from corral.capacity.search import Search
from corral.capacity.verdict import Answer, broken, trial_of
from corral.render.k6 import ObjectiveTarget

SERVICE_S = 2.0
PREFILL_S = 0.4


def waiting_share(rate: float, slots: int, over_s: float) -> float:
    """The share that waits longer than `over_s` for a slot of an M/M/c queue (Erlang C)."""
    offered = rate * SERVICE_S
    if offered >= slots:
        return 1.0
    terms = [offered**number / math.factorial(number) for number in range(slots)]
    last = offered**slots / math.factorial(slots) * slots / (slots - offered)
    return last / (sum(terms) + last) * math.exp(-(slots / SERVICE_S - rate) * over_s)


def true_knee_rpm(slots: int, ttft_p95_s: float) -> float:
    low, high = 0.0, slots / SERVICE_S
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if waiting_share(middle, slots, ttft_p95_s - PREFILL_S) < 0.05 else (low, middle)
    return low * 60


def queue(rate_rpm: float, seconds: float, slots: int, chance: random.Random) -> list[Answer]:
    """What a first-come-first-served queue of so many slots makes of Poisson arrivals, without waiting for it."""
    free = [-math.inf] * slots
    answers = []
    for at in arrivals(rate_rpm / 60, seconds, chance):
        begin = max(at, heapq.heappop(free))
        service = chance.expovariate(1 / SERVICE_S)
        heapq.heappush(free, begin + service)
        answers.append(Answer(at, begin - at + PREFILL_S, begin - at + PREFILL_S + service))
    return answers


def found_knee(slots: int, objectives: ObjectiveTarget, seed: int, requests: int) -> float:
    search = Search(start_rpm=0.25 * slots / SERVICE_S * 60)
    chance = random.Random(seed)
    while (rate := search.next_rpm()) is not None:
        seconds = requests / rate * 60
        answers = queue(rate, seconds, slots, chance)
        trial = trial_of(rate, seconds, answers, objectives["ttft_p95_s"])
        search.record(rate, held=broken(trial, objectives, slots) is None)
    assert search.knee_rpm is not None
    return search.knee_rpm


@pytest.mark.parametrize("slots", [1, 4, 16])
@pytest.mark.parametrize("ttft_p95_s", [2.0, 5.0])
def test_the_knee_is_within_a_tenth_of_the_true_one(slots: int, ttft_p95_s: float) -> None:
    objectives: ObjectiveTarget = {"ttft_p95_s": ttft_p95_s, "duration_p95_s": None, "error_share": 0.01}
    found = [found_knee(slots, objectives, seed, requests=1000) for seed in range(9)]
    assert median(found) == pytest.approx(true_knee_rpm(slots, ttft_p95_s), rel=0.1), found


def test_a_queue_that_grows_breaks_though_nobody_waits_too_long_yet() -> None:
    patient: ObjectiveTarget = {"ttft_p95_s": 1e6, "duration_p95_s": None, "error_share": 0.01}
    found = median(found_knee(4, patient, seed, requests=1000) for seed in range(9))
    assert found == pytest.approx(4 / SERVICE_S * 60, rel=0.2)  # what the slots can do at all


def test_a_failing_share_breaks_and_is_told() -> None:
    objectives: ObjectiveTarget = {"ttft_p95_s": 5.0, "duration_p95_s": None, "error_share": 0.01}
    answers = [Answer(float(at), 0.1, 0.2) for at in range(97)] + [Answer(97.0, refused=True)] * 3
    told = broken(trial_of(60, 100, answers, 5.0), objectives, 4)
    assert told is not None
    assert told.startswith("3.0% failed (3 of 3 refused by 429)")
    warming_up = [Answer(-1.0, refused=True)] * 50 + answers[:97]
    assert broken(trial_of(60, 100, warming_up, 5.0), objectives, 4) is None


def test_a_search_that_finds_no_rate_that_holds_ends() -> None:
    search = Search(start_rpm=40)
    while (rate := search.next_rpm()) is not None:
        search.record(rate, held=False)
    assert search.knee_rpm is None
    assert min(search.broke) == pytest.approx(1.25)
