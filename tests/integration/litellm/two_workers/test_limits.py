"""Limits, budgets and counts over two workers. With `-rP` pytest shows what was found, for docs/fast-path.md."""

import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from support.fake_servers import PROMPT_TOKENS, WORDS, FakeServers
from support.fast_path import CHAT, COST, owned_by
from support.two_workers import TwoWorkers
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]


def asked(workers: TwoWorkers, body: dict[str, Any], key: str, times: int) -> Counter[int]:
    with ThreadPoolExecutor(4) as threads:
        return Counter(threads.map(lambda _: workers.ask(body, key).status_code, range(times)))


def test_both_workers_take_the_way_that_is_said(workers: TwoWorkers) -> None:
    assert list(workers.each().values()) == [workers.fast] * 2


@pytest.mark.parametrize("owner", ["key", "team", "user"])
def test_requests_a_minute(workers: TwoWorkers, owner: str) -> None:
    statuses = asked(workers, CHAT, owned_by(workers.gate, owner, rpm_limit=4), 12)
    print(f"of 12 requests of a {owner} that may send 4 a minute: {statuses}")
    assert set(statuses) <= {200, 429}
    assert statuses[200] == 4 if workers.redis is not None else 4 <= statuses[200] <= 8


def test_tokens_a_minute(workers: TwoWorkers) -> None:
    key = owned_by(workers.gate, "key", tpm_limit=2 * (PROMPT_TOKENS + WORDS))
    body = {**CHAT, "max_tokens": 1, "stream": True}
    answered = 0

    def refused() -> bool:
        nonlocal answered
        status = workers.ask(body, key).status_code
        answered += status == 200
        return status == 429

    wait_until(refused, 20, "the tokens to be used up", 0.2)
    print(f"answers to a key that may have the tokens of 2: {answered}")
    assert 2 <= answered <= (6 if workers.redis is not None else 12)  # those under way are counted when they end


def test_requests_at_a_time(workers: TwoWorkers, servers: FakeServers) -> None:
    key = workers.gate.new_key(max_parallel_requests=2)
    with ExitStack() as stack:
        statuses = Counter(stack.enter_context(streaming(workers, key)).status_code for _ in range(8))
    print(f"of 8 streams of a key that may have 2 at a time: {statuses}")
    assert statuses[200] + statuses[429] == 8
    assert statuses[200] == 2 if workers.redis is not None else 2 <= statuses[200] <= 4
    wait_until(lambda: servers.open["endless"] == 0, 5, "the servers to be let go")
    wait_until(lambda: asked(workers, CHAT, key, 2)[200] == 2, 10, "their places to be free", 0.3)


@contextmanager
def streaming(workers: TwoWorkers, key: str) -> Iterator[httpx.Response]:
    """Begin a stream without end, on a connection of its own."""
    with workers.stream({**CHAT, "model": "endless", "stream": True}, key) as answer:
        data = answer.iter_raw()  # which hangs up when it is dropped
        if answer.status_code == 200:
            next(data)
        yield answer


@pytest.mark.parametrize("owner", ["key", "team", "user"])
def test_a_budget_that_runs_out_during_a_run(workers: TwoWorkers, owner: str) -> None:
    key = owned_by(workers.gate, owner, max_budget=2.5 * COST)
    answered = 0

    def refused() -> bool:
        nonlocal answered
        answer = workers.ask({**CHAT, "stream": bool(answered % 2), "max_tokens": 1}, key)
        answered += answer.status_code == 200
        return answer.status_code != 200 and "udget" in answer.text

    wait_until(refused, 30, "the budget to be used up", 0.3)
    print(f"answers to a {owner} with the budget of 2.5: {answered}")
    assert 3 <= answered <= (6 if workers.redis is not None else 12)  # LiteLLM notices when an answer is logged


def test_one_row_for_each_request_and_every_count_at_zero(workers: TwoWorkers) -> None:
    alias = f"key-{uuid.uuid4()}"
    key = workers.gate.new_key(key_alias=alias)
    assert asked(workers, CHAT, key, 15) + asked(workers, {**CHAT, "stream": True}, key, 15) == {200: 30}
    rows = workers.gate.rows_when(alias, 30)
    assert len({row["request_id"] for row in rows}) == len(rows) == 30
    assert {row["total_tokens"] for row in rows} == {PROMPT_TOKENS + WORDS}
    workers.wait_idle()
