"""What becomes of an answer: rows of spend, usage, headers, callbacks and metrics, on both ways."""

from typing import Any

import pytest

from support.fake_servers import EMBEDDING_USAGE, PROMPT_TOKENS, WORDS, FakeServers
from support.fast_path import CHAT, COST, MESSAGES
from support.gate import ANSWER_PRICE, PROMPT_PRICE, Gate, events_of
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]


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
