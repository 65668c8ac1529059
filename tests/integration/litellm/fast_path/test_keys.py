"""Who may ask for which model, by which name, on both ways."""

import pytest

from support.fast_path import CHAT, fast, refusal
from support.gate import Gate
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]


def test_which_way_requests_go(gate: Gate, request: pytest.FixtureRequest) -> None:
    went = 'corral_gate_requests_total{path="fast",reason=""}'
    assert gate.ask(CHAT).status_code == 200
    assert fast(gate) == (request.node.callspec.params["gate"] == "relayed")
    assert (went in gate.metrics()) == fast(gate)


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
