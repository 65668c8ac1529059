"""Traces as Langfuse gets them, from a gate with the rendered configuration: by the fast path and by LiteLLM's own.

Where Langfuse would be stands a receiver that decodes OTLP's protobuf. Langfuse itself cannot be run here.
"""

import json
import os
import statistics
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from corral.farm import load_farm, servers_of
from corral.render.litellm import config
from corral_traces.delivery import TRY_S
from support.fake_servers import PROMPT_TOKENS, WORDS, FakeServers
from support.gate import ROWS_AT_ONCE, Gate, running_gate
from support.otlp_receiver import OtlpReceiver, Received, otlp_receiver
from support.postgres import running_postgres
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]

PUBLIC_KEY, SECRET_KEY = "pk-lf-of-the-test", "sk-lf-of-the-test"
PROMPT = "Which-colour-has-the-sky"
NOTE = "a-note-of-the-application"
CHAT = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}], "metadata": {"note": NOTE}}
WAYS: dict[str, dict[str, Any]] = {"fast": {}, "stock": {"num_retries": 0}}  # what steers LiteLLM goes its own way
FARM = """
hosts: {here: {address: 127.0.0.1, runtime: processes}}
models:
  chat: {source: {hub: o/r, file: m.gguf}, price: {prompt: 1, answer: 2}}
  broken: {source: {hub: o/r, file: m.gguf}}
servers:
  - {model: chat, host: here, ports: 8080}
  - {model: broken, host: here, ports: 8081}
proxy: {routing: {strategy: simple-shuffle, retries: 0}}
langfuse: {url: "%s"}
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver(PUBLIC_KEY, SECRET_KEY) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def gate(receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("traced")
    file = folder / "corral.yaml"
    file.write_text(FARM % receiver.url)
    farm = load_farm(file).value
    rendered = config(farm, servers_of(farm))
    servers = FakeServers()
    where = {"chat": "good", "broken": "fails_400"}
    for one in rendered["model_list"]:
        one["litellm_params"]["api_base"] = servers.url(where[one["model_name"]])
    keys = {"LANGFUSE_PUBLIC_KEY": PUBLIC_KEY, "LANGFUSE_SECRET_KEY": SECRET_KEY, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with (
        running_postgres(tmp_path_factory.mktemp("database")) as database,
        running_gate(folder / "gate", database, rendered, {**ROWS_AT_ONCE, **keys}) as gate,
    ):
        yield gate
    servers.close()


class Application:
    """A key of the gate."""

    def __init__(self, gate: Gate, **metadata: str) -> None:
        self.gate = gate
        self.alias = f"key-{uuid.uuid4()}"
        self.key = gate.new_key(key_alias=self.alias, metadata=metadata)

    def ask(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        headers["Authorization"] = f"Bearer {self.key}"
        return self.gate.client.post("/v1/chat/completions", json=body, headers=headers)

    def span(self, receiver: OtlpReceiver) -> Received:
        (span,) = wait_until(lambda: receiver.of(self.alias), 20, f"a span of {self.alias}", 0.1)
        return span


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("way", WAYS)
def test_a_span_says_which_server_answered_whom_and_what_it_took(
    gate: Gate, receiver: OtlpReceiver, way: str, stream: bool
) -> None:
    application = Application(gate)
    answer = application.ask({**CHAT, **WAYS[way], "stream": stream, "pace_s": 0.02})
    assert answer.status_code == 200, answer.text
    relayed = way == "fast" and os.environ.get("CORRAL_FAST_PATH") != "off"
    assert ('"model":"m"' in answer.text.replace(" ", "")) == relayed  # whose bytes it leaves as they are
    span = application.span(receiver)
    found = span.attributes
    assert span.name == "chat chat"
    assert found["langfuse.observation.type"] == "generation"
    assert found["langfuse.observation.model.name"] == "chat"
    usage = json.loads(found["langfuse.observation.usage_details"])
    assert usage == {
        "input": PROMPT_TOKENS - 3,
        "input_cached_tokens": 3,
        "output": WORDS,
        "total": PROMPT_TOKENS + WORDS,
    }
    cost = json.loads(found["langfuse.observation.cost_details"])["total"]
    assert cost == pytest.approx((PROMPT_TOKENS * 1 + WORDS * 2) / 1e6)
    assert found["langfuse.trace.metadata.key_alias"] == found["user.id"] == application.alias
    assert found["langfuse.observation.metadata.server"] == "chat-1"
    assert found["langfuse.observation.metadata.request_id"] == answer.headers["x-litellm-call-id"]
    assert found["langfuse.observation.metadata.stream"] is stream
    first = found["gen_ai.response.time_to_first_chunk"]
    assert 0 < first <= span.seconds + 1e-5
    if stream:
        assert first < span.seconds - 0.05  # five words, a fiftieth of a second each
    assert not span.failed
    for text in (PROMPT, "wörd", NOTE):
        assert text.encode() not in span.raw
    assert receiver.versions == {"4"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_says_so_has_its_text_traced(gate: Gate, receiver: OtlpReceiver, way: str, stream: bool) -> None:
    application = Application(gate, corral_traces="content")
    assert application.ask({**CHAT, **WAYS[way], "stream": stream}).status_code == 200
    found = application.span(receiver).attributes
    assert PROMPT in found["langfuse.observation.input"]
    assert found["langfuse.observation.output"].count("wörd") == WORDS


def test_a_key_may_be_left_out(gate: Gate, receiver: OtlpReceiver) -> None:
    silent, traced = Application(gate, corral_traces="off"), Application(gate)
    assert silent.ask(CHAT).status_code == 200
    assert traced.ask(CHAT).status_code == 200
    traced.span(receiver)  # asked later, and there already
    assert receiver.of(silent.alias) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_is_a_span_without_the_servers_words(gate: Gate, receiver: OtlpReceiver, way: str) -> None:
    application = Application(gate)
    answer = application.ask({**CHAT, **WAYS[way], "model": "broken"})
    assert answer.status_code == 400
    said = answer.json()["error"]["message"]
    span = application.span(receiver)
    assert span.failed
    assert span.attributes["langfuse.observation.level"] == "ERROR"
    assert "400" in span.attributes["langfuse.observation.status_message"]
    assert said.encode() not in span.raw


def test_a_call_joins_the_trace_of_its_application(gate: Gate, receiver: OtlpReceiver) -> None:
    application = Application(gate)
    trace = uuid.uuid4().hex
    assert application.ask(CHAT, traceparent=f"00-{trace}-00f067aa0ba902b7-00").status_code == 200
    assert application.span(receiver).trace_id == trace


def logged(gate: Gate, words: str, since: int) -> None:
    wait_until(lambda: words in gate.log.read_text(encoding="utf-8")[since:], 30, f"{words!r} in the log", 0.1)


def asked(application: Application, count: int) -> list[float]:
    took = []
    for _ in range(count):
        began = time.monotonic()
        assert application.ask(CHAT).status_code == 200
        took.append(time.monotonic() - began)
    return took


def test_a_langfuse_that_hangs_costs_requests_nothing_and_is_told(gate: Gate, receiver: OtlpReceiver) -> None:
    application = Application(gate)
    start = len(gate.log.read_text(encoding="utf-8"))
    receiver.go_on.clear()
    try:
        slowest = []
        deadline = time.monotonic() + TRY_S + 2  # from before the first batch goes, until it is given up
        while time.monotonic() < deadline:
            slowest.append(max(asked(application, 5)))
        logged(gate, "takes no traces, requests go on without: no answer within", start)
        assert statistics.median(slowest) < TRY_S  # what each would take that waited for it
    finally:
        receiver.go_on.set()
    back = Application(gate)
    wait_until(lambda: back.ask(CHAT).status_code == 200 and receiver.of(back.alias), 30, "traces again", 0.5)
    logged(gate, "takes traces again", start)


def test_wrong_keys_are_named_in_the_log(gate: Gate, receiver: OtlpReceiver) -> None:
    start = len(gate.log.read_text(encoding="utf-8"))
    with receiver.other_keys():
        assert Application(gate).ask(CHAT).status_code == 200
        logged(gate, "status 401: wrong keys; set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY", start)
    assert SECRET_KEY not in gate.log.read_text(encoding="utf-8")
