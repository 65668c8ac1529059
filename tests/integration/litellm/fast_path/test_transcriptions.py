"""Transcriptions: forms with a file, on both ways where LiteLLM's own does the same.

LiteLLM's own answers 500 to what llama-server answers: it expects other details of its usage.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.fake_servers import PROMPT_TOKENS, WORDS, FakeServers
from support.fast_path import COST, Memory, fast, refusal
from support.gate import MASTER_KEY, Gate
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]

PATH = "/v1/audio/transcriptions"
SOUND = b'RIFF\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat\r\n--b--\r\n' + bytes(range(256)) * 20
RELAYED = pytest.mark.parametrize("gate", ["relayed"], indirect=True)
LARGE = 48 << 20


def transcribe(gate: Gate, key: str = MASTER_KEY, **form: Any) -> httpx.Response:
    files = {"file": ('my "sound".wav', SOUND, "audio/wav")}
    fields = {"model": "ears", **form}
    return gate.client.post(PATH, files=files, data=fields, headers={"Authorization": f"Bearer {key}"})


@RELAYED
def test_a_row_for_each(gate: Gate, servers: FakeServers, alias: str) -> None:
    key = gate.new_key(key_alias=alias, models=["ears"])
    answer = transcribe(gate, key, prompt="wörds")
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == "a wörd"
    (row,) = gate.rows_when(alias, 1)
    assert (row["call_type"], row["model_group"], row["model_id"]) == ("atranscription", "ears", "ears-1")
    assert answer.headers["x-litellm-model-id"] == "ears-1"
    assert (row["prompt_tokens"], row["completion_tokens"]) == (PROMPT_TOKENS, WORDS)
    assert row["spend"] == pytest.approx(COST)
    sent = servers.bodies[-1]
    assert (sent["model"], sent["prompt"]) == (["ears"], ["wörds"])
    assert sent["file"][0]["content"] == SOUND
    assert servers.authorization[-1] == "Bearer key-of-the-servers"


@pytest.mark.parametrize("owner", ["nobody", "key"])
def test_a_model_that_is_not_of_the_farm(gate: Gate, servers: FakeServers, owner: str) -> None:
    """Known by its name, or only when the key's alias for a model of the farm has been looked up."""
    aliases = {"ears": "elsewhere"} if owner == "key" else {}
    key = gate.new_key(models=["ears", "elsewhere"], aliases=aliases)
    answer = transcribe(gate, key, model="ears" if aliases else "elsewhere", prompt="no usage")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["text"], answer.headers["x-litellm-model-id"]) == ("a wörd", "elsewhere-1")
    assert servers.bodies[-1]["file"][0]["content"] == SOUND


def test_who_may_ask(gate: Gate) -> None:
    assert gate.client.post(PATH, files={"file": SOUND}, data={"model": "ears"}).status_code == 401
    assert transcribe(gate, "sk-nobody").status_code == 401
    assert transcribe(gate, gate.new_key(models=["chat"])).status_code in (401, 403)
    key = gate.new_key(models=["ears"], rpm_limit=1)
    statuses = [transcribe(gate, key).status_code for _ in range(3)]
    answered = 200 if fast(gate) else 500
    assert sorted(set(statuses)) == sorted({answered, 429})


@pytest.mark.parametrize("form", [{"model": "gpt-99"}, {"model": ""}])
def test_a_model_that_is_not_there(gate: Gate, form: dict[str, str]) -> None:
    answer = transcribe(gate, gate.new_key(), **form)
    assert 400 <= answer.status_code < 500, answer.text
    assert refusal(answer)


def test_without_a_file(gate: Gate) -> None:
    headers = {"Authorization": f"Bearer {gate.new_key(models=['ears'])}"}
    for how in ({"json": {"model": "ears"}}, {"data": {"model": "ears"}}, {"files": {"model": (None, "ears")}}):
        answer = gate.client.post(PATH, headers=headers, **how)  # type: ignore[arg-type]
        assert 400 <= answer.status_code < 500, answer.text


def test_a_form_that_is_cut_off(gate: Gate) -> None:
    headers = {"Authorization": f"Bearer {gate.new_key()}", "Content-Type": "multipart/form-data; boundary=b"}
    body = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\near'
    answer = gate.client.post(PATH, content=body, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text


@RELAYED
def test_a_form_that_names_two_models_asks_for_the_one_that_the_key_may_use(gate: Gate, servers: FakeServers) -> None:
    key = gate.new_key(models=["ears"])
    for models, allowed in ((["chat", "ears"], True), (["ears", "chat"], False)):
        answer = transcribe(gate, key, model=models)
        assert (answer.status_code == 200) is allowed, answer.text
        if allowed:
            assert servers.bodies[-1]["model"] == ["ears"]


@RELAYED
def test_a_file_goes_whole_to_each_server_that_is_asked(gate: Gate, servers: FakeServers) -> None:
    before = servers.asked["fails_500"]
    for _ in range(3):
        answer = transcribe(gate, model="f500", **{"timestamp_granularities[]": ["word", "segment"]})
        assert answer.headers["x-litellm-model-id"] == "f500-good"
    assert servers.asked["fails_500"] > before
    for sent in servers.bodies[-2:]:
        assert sent["file"] == [{"filename": "my %22sound%22.wav", "type": "audio/wav", "content": SOUND}]
        assert sent["timestamp_granularities[]"] == ["word", "segment"]


def test_a_servers_own_error(gate: Gate, alias: str) -> None:
    key = gate.new_key(key_alias=alias)
    answer = transcribe(gate, key, model="only-fails_400")
    assert answer.status_code == 400
    assert "'temperature' is no number" in refusal(answer)
    if fast(gate):
        assert answer.json()["error"]["param"] == "temperature"
    (row,) = gate.rows_when(alias, 1)
    assert (row["status"], row["spend"]) == ("failure", 0)


@RELAYED
def test_a_client_that_leaves_lets_the_server_go(gate: Gate, servers: FakeServers, alias: str) -> None:
    key = gate.new_key(key_alias=alias, max_parallel_requests=1)
    with pytest.raises(httpx.ReadTimeout):
        gate.client.post(
            PATH,
            files={"file": ("a.wav", SOUND)},
            data={"model": "only-silent"},
            headers={"Authorization": f"Bearer {key}"},
            timeout=2,
        )
    wait_until(lambda: servers.open["silent"] == 0, 2, "the server to be let go")
    wait_until(lambda: transcribe(gate, key).status_code == 200, 3, "its place to be free")
    statuses = [row["status"] for row in gate.rows_when(alias, 2)]
    assert statuses == ["failure", "success"]


@RELAYED
def test_a_large_file_is_not_held_in_memory(gate: Gate, servers: FakeServers, tmp_path: Path) -> None:
    transcribe(gate)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.write(os.urandom(1 << 20) * (LARGE >> 20))
    memory = Memory(gate)
    with large.open("rb") as file:
        answer = gate.client.post(
            PATH, files={"file": file}, data={"model": "ears"}, headers={"Authorization": f"Bearer {MASTER_KEY}"}
        )
    assert answer.status_code == 200, answer.text
    digest = hashlib.sha256(servers.bodies.pop()["file"][0]["content"]).digest()
    assert digest == hashlib.sha256(large.read_bytes()).digest()
    assert memory.peak < LARGE / 2
