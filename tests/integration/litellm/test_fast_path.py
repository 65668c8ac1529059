"""The same requests by the fast path and by LiteLLM's own: one gate for each, the same expectations.

Where the two differ a test says so with `fast(gate)`, and docs/fast-path.md says why.
"""

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.fake_servers import EMBEDDING_USAGE, PROMPT_TOKENS, WORDS, FakeServers
from support.gate import ANSWER_PRICE, PROMPT_PRICE, ROWS_AT_ONCE, Gate, config_for, events_of, running_gate
from support.ports import free_port
from support.postgres import Postgres, running_postgres
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]

MESSAGES = [{"role": "user", "content": "Name a colour."}]
CHAT = {"model": "chat", "messages": MESSAGES}
COST = PROMPT_TOKENS * PROMPT_PRICE + WORDS * ANSWER_PRICE
WAYS = ("relayed", "stock")


@pytest.fixture(scope="module")
def servers() -> Iterator[FakeServers]:
    running = FakeServers()
    yield running
    running.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with running_postgres(tmp_path_factory.mktemp("database")) as database:
        yield database


def models(servers: FakeServers) -> dict[str, list[tuple[str, str]]]:
    refused = f"http://127.0.0.1:{free_port()}/v1"
    failing = {"f500": "fails_500", "f503": "fails_503", "f429": "fails_429", "refused": refused, "timeout": "silent"}
    alone = ("fails_400", "fails_500", "silent", "endless", "dies", "gives_up")
    return {
        "chat": [("chat-1", "good"), ("chat-2", "another")],
        "embed": [("embed-1", "good")],
        "rank": [("rank-1", "good")],
        **{name: [(f"{name}-bad", where), (f"{name}-good", "good")] for name, where in failing.items()},
        **{f"only-{name}": [(f"only-{name}", name)] for name in alone},
        "falls-back": [("falls-back", "fails_500")],
    }


@pytest.fixture(scope="module", params=WAYS)
def gate(
    request: pytest.FixtureRequest, servers: FakeServers, database: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    config = config_for(
        servers,
        models(servers),
        model_group_alias={"assistant": "chat"},
        fallbacks=[{"falls-back": ["chat"]}],
    )
    for one in config["model_list"]:
        if one["model_name"] == "timeout":
            one["litellm_params"] |= {"timeout": 0.5, "stream_timeout": 0.5}
    config["litellm_settings"]["callbacks"] += ["prometheus", "gate_probe.probe", "corral_fast_path.fast_path"]
    folder = tmp_path_factory.mktemp(f"gate-{request.param}")
    switch = "on" if request.param == "relayed" else "off"
    with running_gate(folder, database, config, {**ROWS_AT_ONCE, "CORRAL_FAST_PATH": switch}) as gate:
        yield gate


def fast(gate: Gate) -> bool:
    return "corral_gate_fast_path_active 1.0" in gate.metrics()


@pytest.fixture
def alias() -> str:
    """A name for a key that no other test has, to find its rows by."""
    return f"key-{uuid.uuid4()}"


def refusal(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])


def test_which_way_requests_go(gate: Gate, request: pytest.FixtureRequest) -> None:
    went = 'corral_gate_requests_total{path="fast",reason=""}'
    assert gate.ask(CHAT).status_code == 200
    assert fast(gate) == (request.node.callspec.params["gate"] == "relayed")
    assert (went in gate.metrics()) == fast(gate)


# Who may ask


def test_no_key(gate: Gate) -> None:
    assert gate.client.post("/v1/chat/completions", json=CHAT).status_code == 401


@pytest.mark.parametrize("header", ["Authorization", "API-Key", "x-api-key", "x-litellm-api-key"])
def test_a_key_is_found_in_every_header_that_litellm_knows(gate: Gate, header: str) -> None:
    key = gate.new_key(models=["chat"])
    value = f"Bearer {key}" if header in ("Authorization", "x-litellm-api-key") else key
    assert gate.client.post("/v1/chat/completions", json=CHAT, headers={header: value}).status_code == 200


def test_wrong_key(gate: Gate) -> None:
    answer = gate.ask(CHAT, "sk-nobody-has-this-one")
    assert answer.status_code == 401
    assert "sk-nobody-has-this-one" not in answer.text


def test_expired_key(gate: Gate) -> None:
    key = gate.new_key(models=["chat"], duration="1s")
    answer = wait_until(lambda: a if (a := gate.ask(CHAT, key)).status_code != 200 else None, 10, "the key to expire")
    assert answer.status_code in (400, 401)
    assert "xpired" in refusal(answer)


def test_blocked_and_deleted_key(gate: Gate) -> None:
    key = gate.new_key(models=["chat"])
    assert gate.ask(CHAT, key).status_code == 200
    gate.admin("/key/block", key=key)
    assert gate.ask(CHAT, key).status_code == 401
    gate.admin("/key/unblock", key=key)
    assert gate.ask(CHAT, key).status_code == 200
    gate.admin("/key/delete", keys=[key])
    assert gate.ask(CHAT, key).status_code == 401


def test_model_that_the_key_may_not_use(gate: Gate) -> None:
    answer = gate.ask(CHAT, gate.new_key(models=["embed"]))
    assert answer.status_code in (401, 403)
    assert "chat" in refusal(answer)


def test_unknown_model(gate: Gate) -> None:
    answer = gate.ask({**CHAT, "model": "gpt-99"}, gate.new_key())
    assert answer.status_code == 400
    assert "gpt-99" in refusal(answer)


@pytest.mark.parametrize(
    "body", ["{", "", '{"model": 7}', '{"model": "chat"}', '{"model": "chat", "messages": "hi"}', '{"messages": []}']
)
def test_malformed_body(gate: Gate, body: str) -> None:
    key = gate.new_key(models=["chat"])
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    answer = gate.client.post("/v1/chat/completions", content=body, headers=headers)
    assert 400 <= answer.status_code < 500
    assert refusal(answer)


# Limits and budgets


def owned_by(gate: Gate, owner: str, **limits: Any) -> str:
    """A key whose limits are those of the key itself, of its team, or of its user."""
    if owner == "key":
        return gate.new_key(models=["chat"], **limits)
    if owner == "team":
        return gate.new_key(team_id=gate.admin("/team/new", models=["chat"], **limits)["team_id"])
    return gate.new_key(user_id=gate.admin("/user/new", auto_create_key=False, models=["chat"], **limits)["user_id"])


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


# Names


def test_an_alias_of_the_model(gate: Gate) -> None:
    assert gate.ask({**CHAT, "model": "assistant"}).headers["x-litellm-model-id"].startswith("chat-")


def test_an_alias_of_the_key(gate: Gate) -> None:
    key = gate.new_key(models=["chat"], aliases={"embed": "chat", "mine": "chat"})
    for name in ("mine", "embed"):
        answer = gate.ask({**CHAT, "model": name}, key)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-litellm-model-id"].startswith("chat-")


def test_a_model_of_a_team(gate: Gate) -> None:
    team = gate.admin("/team/new", models=["chat"], model_aliases={"ours": "chat"})["team_id"]
    answer = gate.ask({**CHAT, "model": "ours"}, gate.new_key(team_id=team))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-litellm-model-id"].startswith("chat-")


# Answers, rows and what LiteLLM tells others


def asked_for(kind: str) -> tuple[str, dict[str, Any]]:
    return {
        "chat": ("/v1/chat/completions", CHAT),
        "chat stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
        "chat stream with usage": (
            "/v1/chat/completions",
            {**CHAT, "stream": True, "stream_options": {"include_usage": True}},
        ),
        "completion": ("/v1/completions", {"model": "chat", "prompt": "The sky is"}),
        "completion stream": ("/v1/completions", {"model": "chat", "prompt": "The sky is", "stream": True}),
        "embedding": ("/v1/embeddings", {"model": "embed", "input": ["a", "b"]}),
        "without v1": ("/chat/completions", CHAT),
        "message": ("/v1/messages", {**CHAT, "max_tokens": 9}),
        "message stream": ("/v1/messages", {**CHAT, "max_tokens": 9, "stream": True}),
        "response": ("/v1/responses", {"model": "chat", "input": "Name a colour."}),
        "response stream": ("/v1/responses", {"model": "chat", "input": "Name a colour.", "stream": True}),
        "rerank": ("/v1/rerank", {"model": "rank", "query": "colour", "documents": ["red", "loud"]}),
    }[kind]


RELAYED_ONLY = ("message", "message stream", "response", "response stream", "rerank")
"""LiteLLM's own path translates these into chats, or back; docs/fast-path.md says what becomes of them."""
KINDS = ("chat", "chat stream", "chat stream with usage", "completion", "completion stream", "embedding", "without v1")


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_for_each_answer(gate: Gate, alias: str, kind: str) -> None:
    check_row(gate, alias, kind)


@pytest.mark.parametrize("gate", ["relayed"], indirect=True)
@pytest.mark.parametrize("kind", RELAYED_ONLY)
def test_one_row_for_each_answer_in_another_language(gate: Gate, servers: FakeServers, alias: str, kind: str) -> None:
    check_row(gate, alias, kind)
    _, body = asked_for(kind)
    assert {**servers.bodies[-1]} == body  # untranslated


def check_row(gate: Gate, alias: str, kind: str) -> None:
    path, body = asked_for(kind)
    key = gate.new_key(key_alias=alias)
    answer = gate.ask(body, key, path)
    assert answer.status_code == 200, answer.text
    (row,) = gate.rows_when(alias, 1)
    prompt, words = (EMBEDDING_USAGE["prompt_tokens"], 0) if body["model"] != "chat" else (PROMPT_TOKENS, WORDS)
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (prompt, words, prompt + words)
    cost = 0 if kind == "rerank" else prompt * PROMPT_PRICE + words * ANSWER_PRICE  # LiteLLM prices its queries
    assert row["spend"] == pytest.approx(cost)
    assert row["model_group"] == body["model"]
    assert row["model_id"] == answer.headers["x-litellm-model-id"]
    assert row["custom_llm_provider"] == "hosted_vllm"
    assert row["status"] in (None, "success")
    assert row["startTime"] <= row["completionStartTime"] <= row["endTime"]


@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_ends_with_usage_only_for_who_asked(gate: Gate, asked: bool) -> None:
    body = {**CHAT, "stream": True, **({"stream_options": {"include_usage": True}} if asked else {})}
    answer = gate.ask(body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.rstrip().endswith("data: [DONE]")
    events = events_of(answer.text)
    said = [event["usage"] for event in events if event.get("usage")]
    assert [usage["completion_tokens"] for usage in said] == ([WORDS] if asked else [])
    text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    assert text == " wörd0 wörd1 wörd2 wörd3 wörd4"


def test_headers(gate: Gate) -> None:
    key = gate.new_key(models=["chat"], rpm_limit=100, tpm_limit=100000)
    for stream in (False, True):
        answer = gate.ask({**CHAT, "stream": stream}, key)
        assert answer.headers["x-corral-server"]
        assert answer.headers["x-litellm-model-group"] == "chat"
        assert answer.headers["x-litellm-key-rpm-limit"] == "100"
        for name in ("call-id", "model-id", "model-api-base", "version", "attempted-retries"):
            assert answer.headers[f"x-litellm-{name}"]
        if not stream:
            assert float(answer.headers["x-litellm-response-cost"]) == pytest.approx(COST)
            assert answer.headers["x-ratelimit-api_key-remaining-requests"] == "99"


def test_the_servers_key_goes_to_the_server_and_the_clients_does_not(gate: Gate, servers: FakeServers) -> None:
    gate.ask({**CHAT, "metadata": {"tags": ["a"]}, "temperature": 0.5})
    assert servers.authorization[-1] == "Bearer key-of-the-servers"
    body = servers.bodies[-1]
    assert (body["messages"], body["temperature"], body["model"]) == (MESSAGES, 0.5, "chat")
    assert "metadata" not in body
    assert "litellm_metadata" not in body


@pytest.mark.parametrize("stream", [False, True])
def test_callbacks_and_metrics_hear_of_an_answer(gate: Gate, stream: bool) -> None:
    name = gate.ask({**CHAT, "stream": stream}).headers["x-litellm-call-id"]
    before = tokens_measured(gate)
    answer = gate.ask({**CHAT, "stream": stream})
    assert name != answer.headers["x-litellm-call-id"]
    wait_until(lambda: tokens_measured(gate) >= before + PROMPT_TOKENS + WORDS, 10, "the tokens to be measured")
    said = [event for event in gate.events() if event["outcome"] == "success" and event["model_group"] == "chat"][-1]
    assert (said["prompt_tokens"], said["completion_tokens"]) == (PROMPT_TOKENS, WORDS)
    assert said["response_cost"] == pytest.approx(COST)
    assert "wörd" in said["response"]["choices"][0]["message"]["content"]


def tokens_measured(gate: Gate) -> float:
    lines = gate.metrics().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("litellm_total_tokens_metric_total{"))


# Servers that fail


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["f500", "f503", "f429", "refused", "timeout"])
def test_what_one_server_fails_another_answers(gate: Gate, alias: str, model: str, stream: bool) -> None:
    key = gate.new_key(key_alias=alias)
    for _ in range(3):
        answer = gate.ask({**CHAT, "model": model, "stream": stream}, key)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-litellm-model-id"] == f"{model}-good"
    rows = gate.rows_when(alias, 3)
    assert [row["completion_tokens"] for row in rows] == [WORDS] * 3


def test_a_server_that_fails_rests(gate: Gate, servers: FakeServers) -> None:
    def retried() -> int:
        return int(gate.ask({**CHAT, "model": "f500"}).headers["x-litellm-attempted-retries"])

    before = servers.asked["fails_500"]
    wait_until(lambda: retried() == 0 and servers.asked["fails_500"] > before, 10, "the failing server to rest", 0.2)
    before = servers.asked["fails_500"]
    assert [retried() for _ in range(2)] == [0, 0]
    assert servers.asked["fails_500"] == before


def test_a_model_falls_back_to_another(gate: Gate) -> None:
    answer = gate.ask({**CHAT, "model": "falls-back"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-litellm-model-id"].startswith("chat-")
    assert answer.headers["x-litellm-attempted-fallbacks"] == "1"


@pytest.mark.parametrize("stream", [False, True])
def test_a_servers_own_error(gate: Gate, alias: str, stream: bool) -> None:
    key = gate.new_key(key_alias=alias)
    answer = gate.ask({**CHAT, "model": "only-fails_400", "stream": stream}, key)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert "'temperature' is no number" in error["message"]
    if fast(gate):
        assert error == {
            "code": 400, "message": "'temperature' is no number", "type": "invalid_request_error",
            "param": "temperature",
        }  # fmt: skip
    (row,) = gate.rows_when(alias, 1)
    assert (row["status"], row["completion_tokens"], row["spend"]) == ("failure", 0, 0)


def test_when_all_servers_fail(gate: Gate, alias: str) -> None:
    key = gate.new_key(key_alias=alias)
    answer = gate.ask({**CHAT, "model": "only-fails_500"}, key)
    assert answer.status_code in (500, 429)  # 429 while its only server rests
    assert refusal(answer)
    (row,) = gate.rows_when(alias, 1)
    assert row["status"] == "failure"


@pytest.mark.parametrize("model", ["only-dies", "only-gives_up"])
def test_a_stream_that_breaks_ends_with_an_error(gate: Gate, alias: str, model: str) -> None:
    key = gate.new_key(key_alias=alias)
    answer = gate.ask({**CHAT, "model": model, "stream": True}, key)
    assert answer.status_code == 200
    *_, last = events_of(answer.text)
    assert last["error"]["message"]
    (row,) = gate.rows_when(alias, 1)
    assert row["status"] == "failure"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["before", "choosing"])
def test_a_hook_that_raises_is_said_and_holds_nothing(gate: Gate, alias: str, where: str, stream: bool) -> None:
    key = gate.new_key(key_alias=alias, max_parallel_requests=1)
    for _ in range(2):
        answer = gate.ask({**CHAT, "stream": stream, "metadata": {"raise": where}}, key)
        assert answer.status_code == 500
        assert f"the probe raises {where}" in refusal(answer)
    wait_until(lambda: gate.ask(CHAT, key).status_code == 200, 3, "its place to be free")
    rows = gate.rows_when(alias, 3)
    assert sorted(str(row["status"]) for row in rows) == ["failure", "failure", "success"]


# Clients that leave


def streaming(gate: Gate, body: dict[str, Any], key: str) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    return gate.client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}, headers=headers)


def test_a_client_that_leaves_a_stream(gate: Gate, servers: FakeServers, alias: str) -> None:
    key = gate.new_key(key_alias=alias, max_parallel_requests=1)
    with streaming(gate, {**CHAT, "model": "only-endless"}, key) as answer:
        received = b""
        for data in answer.iter_raw():
            received += data
            if received.count(b"data:") >= 10:
                break
    wait_until(lambda: servers.open["endless"] == 0, 1, "the server to be let go")
    wait_until(lambda: gate.ask(CHAT, key).status_code == 200, 3, "its place to be free")
    row, _ = sorted(gate.rows_when(alias, 2), key=lambda row: str(row["model_group"]) != "only-endless")
    assert row["completion_tokens"] >= 8
    assert row["spend"] > 0
    assert row["metadata"]["error_information"]["error_code"] == "499"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("gate", ["relayed"], indirect=True)  # on LiteLLM's own path the server computes on
def test_a_client_that_leaves_before_the_first_byte(gate: Gate, servers: FakeServers, alias: str, stream: bool) -> None:
    key = gate.new_key(key_alias=alias, max_parallel_requests=1)
    leave_before_the_first_byte(gate, servers, key, {**CHAT, "model": "only-silent", "stream": stream})
    wait_until(lambda: servers.open["silent"] == 0, 1, "the server to be let go")
    wait_until(lambda: gate.ask(CHAT, key).status_code == 200, 3, "its place to be free")
    failed, answered = sorted(gate.rows_when(alias, 2), key=lambda row: row["completion_tokens"])
    assert (failed["status"], failed["completion_tokens"], answered["completion_tokens"]) == ("failure", 0, WORDS)
    assert gate.ask({**CHAT, "model": "only-silent"}, "sk-nobody").status_code == 401  # it does not rest for that


def leave_before_the_first_byte(gate: Gate, servers: FakeServers, key: str, body: dict[str, Any]) -> None:
    import json

    data = json.dumps(body).encode()
    host, port = gate.url.removeprefix("http://").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + data)
        wait_until(lambda: servers.open["silent"] > 0, 10, "the server to be asked")


def test_a_client_that_reads_slowly_gets_it_all(gate: Gate) -> None:
    with streaming(gate, CHAT, gate.new_key()) as answer:
        received = b""
        for data in answer.iter_raw(chunk_size=64):
            received += data
            time.sleep(0.005)
    assert received.rstrip().endswith(b"[DONE]")


def test_many_at_once_leave_every_count_at_zero(gate: Gate, alias: str) -> None:
    key = gate.new_key(key_alias=alias)
    answers: list[int] = []

    def ask(number: int) -> None:
        answers.append(gate.ask({**CHAT, "stream": bool(number % 2), "pace_s": 0.01}, key).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [200] * 16
    rows = gate.rows_when(alias, 16)
    assert len({row["request_id"] for row in rows}) == len(rows) == 16
    assert {row["total_tokens"] for row in rows} == {PROMPT_TOKENS + WORDS}
    assert {row["model_id"] for row in rows} == {"chat-1", "chat-2"}
    if fast(gate):  # LiteLLM's own path counts a second failure of a request nowhere, and drifts
        gate.wait_idle()
