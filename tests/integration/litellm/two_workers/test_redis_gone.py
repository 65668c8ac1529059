"""Redis goes away under load, and comes back: requests and streams go on, and limits hold as far as they can.

The suite kills it. `TWO_WORKERS=all` also freezes it, as on a host that is stuck: it takes connections and answers
nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.asking import Asking
from support.fast_path import CHAT
from support.redis_server import Redis
from support.two_workers import WAYS, TwoWorkers
from support.waiting import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(250),
    pytest.mark.parametrize("workers", [way for way in WAYS if way.endswith("Redis")], indirect=True),
]

GONE: dict[str, tuple[Callable[[Redis], None], Callable[[Redis], None]]] = {
    "killed": (Redis.kill, Redis.start),
    "frozen": (Redis.freeze, Redis.thaw),
}
"""How it goes, and how it comes back."""
LIMIT, ASKED = 4, 12
BUSY_S = 15.0
"""What a request or a token may take on a busy machine. Left to its defaults, Redis' client waits for longer."""


@pytest.fixture(params=GONE if len(WAYS) > 1 else ["killed"])
def how(request: pytest.FixtureRequest, workers: TwoWorkers) -> Iterator[str]:
    """How Redis goes; it is back after the test, whatever that did."""
    redis = workers.redis
    assert redis is not None
    yield request.param
    if not redis.runs:
        redis.start()
    redis.thaw()
    wait_until(lambda: answered(workers) == LIMIT, 60, "the limits to be shared again", 0.5)


def answered(workers: TwoWorkers) -> int:
    """How many of a new key's requests are answered that may send some a minute."""
    key = workers.gate.new_key(models=["chat"], rpm_limit=LIMIT)
    with ThreadPoolExecutor(4) as threads:
        statuses = Counter(threads.map(lambda _: workers.ask(CHAT, key).status_code, range(ASKED)))
    assert set(statuses) <= {200, 429}
    return statuses[200]


def test_requests_and_streams_go_on_without_redis_and_share_limits_when_it_is_back(
    workers: TwoWorkers, how: str
) -> None:
    redis = workers.redis
    assert redis is not None
    goes, comes_back = GONE[how]
    with Asking(workers, CHAT, workers.gate.new_key(), {**CHAT, "model": "endless", "stream": True}) as asking:
        asking.wait_for_more(60, 10)
        goes(redis)
        asking.wait_for_more(90, 20)
        assert LIMIT <= answered(workers) <= 2 * LIMIT  # each worker counts for itself
        comes_back(redis)
        wait_until(lambda: answered(workers) == LIMIT, 60, "the limits to be shared again", 0.5)
        asking.wait_for_more(60, 10)
    print(f"{how}: longest request {asking.longest_s:.2f} s, longest gap of a stream {asking.longest_gap_s:.2f} s")
    assert asking.failed == []
    assert asking.longest_s < BUSY_S
    assert asking.longest_gap_s < BUSY_S
