"""Bodies as large as may be and larger, clients that do not read, and servers whose answers are oddly spelt."""

import http.client
from collections.abc import Iterator

import pytest

from support.fake_servers import PROMPT_TOKENS, WORDS, FakeServers
from support.fast_path import CHAT, Memory, fast, refusal, streaming
from support.gate import MASTER_KEY, Gate, events_of
from support.odd_servers import FLOOD, odd_stream
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]

SPOKEN = "".join(f" wörd{number}" for number in range(WORDS))
LARGE = 31 << 20
"""Bytes of a body that a gpu-server still takes."""
JSON, FORM = "application/json", "multipart/form-data; boundary=b"


@pytest.mark.parametrize("model", ["only-odd", "only-lies"])
def test_a_stream_that_is_oddly_spelt_or_called_json(gate: Gate, alias: str, model: str) -> None:
    answer = gate.ask({**CHAT, "model": model, "stream": True}, gate.new_key(key_alias=alias))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    if fast(gate) and model == "only-odd":
        assert answer.content == odd_stream("chatcmpl-odd")
    said = (choice["delta"].get("content") for event in events_of(answer.text) for choice in event["choices"])
    assert "".join(text or "" for text in said) == SPOKEN
    if fast(gate) or model == "only-lies":  # LiteLLM's own way writes no row of the other
        (row,) = gate.rows_when(alias, 1)
        assert (row["prompt_tokens"], row["completion_tokens"]) == (PROMPT_TOKENS, WORDS)


def test_json_that_is_called_a_stream(gate: Gate, alias: str) -> None:
    answer = gate.ask({**CHAT, "model": "only-lies"}, gate.new_key(key_alias=alias))
    assert answer.headers["content-type"].startswith(JSON)
    assert answer.json()["choices"][0]["message"]["content"] == "a wörd"
    (row,) = gate.rows_when(alias, 1)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (PROMPT_TOKENS, WORDS)


@pytest.mark.parametrize("gate", ["relayed"], indirect=True)  # LiteLLM's own way keeps the whole answer, in pieces
def test_a_client_that_does_not_read_holds_up_its_server_and_takes_no_memory(gate: Gate, servers: FakeServers) -> None:
    key = gate.new_key()
    begun = servers.sent["floods"]
    memory = Memory(gate)
    seen = [-1]

    def stands_still() -> bool:
        seen.append(servers.sent["floods"])
        return seen[-2] == seen[-1] > begun

    with streaming(gate, {**CHAT, "model": "only-floods"}, key) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        wait_until(stands_still, 20, "the server to be held up", 0.3)
        assert servers.sent["floods"] - begun < FLOOD / 2
        assert gate.ask(CHAT, key).status_code == 200
        rest = sum(map(len, pieces))
    assert rest > FLOOD * 0.99
    assert memory.peak < FLOOD / 2


def test_a_body_as_large_as_a_server_takes_goes_through(gate: Gate, servers: FakeServers) -> None:
    messages = [{"role": "user", "content": "wörd " * (LARGE // 6)}]
    memory = Memory(gate)
    answer = gate.ask({**CHAT, "messages": messages})
    assert answer.status_code == 200, answer.text
    assert servers.bodies.pop()["messages"] == messages
    assert memory.peak < 12 * LARGE


@pytest.mark.parametrize("key", [MASTER_KEY, "sk-nobody"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/audio/transcriptions"])
def test_a_body_that_is_too_large(gate: Gate, path: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": FORM if "audio" in path else JSON}
    connection = http.client.HTTPConnection(gate.url.removeprefix("http://"), timeout=10)
    connection.request("POST", path, headers={**headers, "Content-Length": str(101 << 20)})
    said = connection.getresponse()  # before any of it is sent
    assert said.status == 413
    assert b"has more than 100 MiB" in said.read()
    connection.close()


@pytest.mark.parametrize("kind", [JSON, FORM])
def test_a_body_that_does_not_say_how_large_it_is_and_never_ends(gate: Gate, kind: str) -> None:
    def endless() -> Iterator[bytes]:
        yield b"{" if kind == JSON else b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(101):
            yield bytes(1 << 20)

    path = "/v1/chat/completions" if kind == JSON else "/v1/audio/transcriptions"
    answer = gate.client.post(path, content=endless(), headers={"Content-Type": kind})
    assert answer.status_code == 413
    assert "has more than 100 MiB" in refusal(answer)


def test_a_client_that_sends_slowly_holds_up_nobody(gate: Gate) -> None:
    key = gate.new_key()
    asked = []

    def slowly() -> Iterator[bytes]:
        yield b'{"model": "chat", "mess'
        while len(asked) < 3:
            asked.append(gate.ask(CHAT, key).status_code)
        yield b'ages": [{"role": "user", "content": "Name a colour."}]}'

    headers = {"Authorization": f"Bearer {key}", "Content-Type": JSON}
    answer = gate.client.post("/v1/chat/completions", content=slowly(), headers=headers)
    assert (answer.status_code, asked) == (200, [200] * 3)
