"""Limits and budgets of keys, teams and users, on both ways."""

import httpx
import pytest

from support.fake_servers import PROMPT_TOKENS, WORDS
from support.fast_path import CHAT, COST, fast, owned_by, refusal, streaming
from support.gate import Gate
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]


@pytest.mark.parametrize("owner", ["key", "team", "user"])
def test_requests_a_minute(gate: Gate, owner: str) -> None:
    key = owned_by(gate, owner, rpm_limit=2)
    statuses = [gate.ask(CHAT, key).status_code for _ in range(4)]
    assert statuses in ([200, 200, 429, 429], [200, 200, 429, 200], [200, 200, 200, 429])  # a minute may begin between


@pytest.mark.parametrize("owner", ["key", "team", "user"])
@pytest.mark.parametrize("stream", [False, True])
def test_tokens_a_minute(gate: Gate, owner: str, stream: bool) -> None:
    key = owned_by(gate, owner, tpm_limit=PROMPT_TOKENS + WORDS)
    body = {**CHAT, "stream": stream, "max_tokens": 1}

    def refused() -> httpx.Response | None:
        answer = gate.ask(body, key)
        return answer if answer.status_code == 429 else None

    assert "tokens" in refusal(wait_until(refused, 10, "the tokens to be used up"))


@pytest.mark.parametrize("owner", ["key", "team", "user"])
def test_requests_at_a_time(gate: Gate, owner: str) -> None:
    if owner == "key":
        key = gate.new_key(max_parallel_requests=1)
    elif owner == "team":
        key = gate.new_key(team_id=gate.admin("/team/new", max_parallel_requests=1)["team_id"])
    else:
        user = gate.admin("/user/new", auto_create_key=False, max_parallel_requests=1)["user_id"]
        key = gate.new_key(user_id=user)
    with streaming(gate, {**CHAT, "model": "only-endless"}, key) as first:
        data = first.iter_raw()
        next(data)
        second = gate.ask(CHAT, key).status_code
    limited = second == 429
    assert limited or owner != "key"
    wait_until(lambda: gate.ask(CHAT, key).status_code == 200, 5, "its place to be free")
    if fast(gate):  # one after the other never meet; LiteLLM's own path frees a place some time after the answer
        statuses = [gate.ask({**CHAT, "stream": number % 2 == 0}, key).status_code for number in range(6)]
        assert statuses == [200] * 6


@pytest.mark.parametrize("owner", ["key", "team", "user"])
def test_a_budget_that_runs_out_during_a_run(gate: Gate, owner: str) -> None:
    key = owned_by(gate, owner, max_budget=2.5 * COST)
    answered = 0

    def refused() -> httpx.Response | None:
        nonlocal answered
        answer = gate.ask({**CHAT, "stream": bool(answered % 2), "max_tokens": 1}, key)
        answered += answer.status_code == 200
        return answer if answer.status_code != 200 else None

    answer = wait_until(refused, 30, "the budget to be used up", 0.3)
    assert answer.status_code in (400, 422, 429)
    assert "udget" in refusal(answer)
    assert 3 <= answered <= 8  # LiteLLM notices when the row is written
