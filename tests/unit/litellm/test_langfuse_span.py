"""What may leave the gate for Langfuse, of any call, and what becomes of it where Langfuse takes nothing."""

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from corral_traces import delivery
from corral_traces.callback import Traces
from corral_traces.span import MOST_TEXT, Detail, attributes, detail_of

SECRET = "nobody-shall-read-this"
PAYLOAD: dict[str, Any] = {
    "call_type": "acompletion", "model": "chat", "model_group": "chat", "model_id": "chat-1", "stream": True,
    "litellm_call_id": "id-1", "prompt_tokens": 10, "completion_tokens": 5, "response_cost": 0.5,
    "startTime": 100.0, "completionStartTime": 100.25, "endTime": 101.0, "status": "success",
    "messages": [{"role": "user", "content": SECRET}],
    "response": {"choices": [{"message": {"role": "assistant", "content": SECRET}}]},
    "model_parameters": {"temperature": 0.5, "max_tokens": 7, "grammar": SECRET, "tools": [SECRET], "stop": SECRET},
    "metadata": {"user_api_key_alias": "wiki", "requester_metadata": {"note": SECRET}, "user_api_key_hash": SECRET,
                 "usage_object": {"prompt_tokens_details": {"cached_tokens": 4}}},
    "end_user": SECRET, "requester_ip_address": SECRET, "user_agent": SECRET, "request_tags": [SECRET],
    "error_str": SECRET, "hidden_params": {"additional_headers": {"x": SECRET}}, "api_base": SECRET,
    "error_information": {"error_class": "Timeout", "error_code": "408", "error_message": SECRET, "traceback": SECRET},
}  # fmt: skip


@pytest.mark.parametrize("status", ["success", "failure"])
@pytest.mark.parametrize("kind", ["acompletion", "aembedding", "anthropic_messages", "aresponses", "arerank", "later"])
def test_figures_hold_no_text_of_any_kind_of_call(kind: str, status: str) -> None:
    found = attributes({**PAYLOAD, "call_type": kind, "status": status}, Detail.FIGURES)
    assert SECRET not in json.dumps(found)
    assert found["langfuse.observation.metadata.server"] == "chat-1"
    assert json.loads(str(found["langfuse.observation.model.parameters"])) == {"temperature": 0.5, "max_tokens": 7}
    assert ("gen_ai.response.time_to_first_chunk" in found) == (status == "success")
    assert found.get("error.type") == ("Timeout" if status == "failure" else None)


def test_a_prompts_parts_add_up() -> None:
    usage = json.loads(str(attributes(PAYLOAD, Detail.FIGURES)["langfuse.observation.usage_details"]))
    assert usage == {"input": 6, "input_cached_tokens": 4, "output": 5, "total": 15}


def test_long_text_is_cut_off() -> None:
    long = {**PAYLOAD, "messages": "x" * (MOST_TEXT * 3), "response": {"output": [{"text": "y" * MOST_TEXT * 3}]}}
    found = attributes(long, Detail.CONTENT)
    for name in ("langfuse.observation.input", "langfuse.observation.output"):
        assert MOST_TEXT < len(str(found[name])) < MOST_TEXT + 100


def test_vectors_are_not_traced() -> None:
    embedding = {**PAYLOAD, "call_type": "aembedding", "response": {"data": [{"embedding": [0.1] * 384}]}}
    assert "langfuse.observation.output" not in attributes(embedding, Detail.CONTENT)


@pytest.mark.parametrize(
    ("of_key", "default", "expected"),
    [
        (None, Detail.FIGURES, Detail.FIGURES),
        (None, Detail.CONTENT, Detail.CONTENT),
        ("content", Detail.FIGURES, Detail.CONTENT),
        ("figures", Detail.CONTENT, Detail.FIGURES),
        ("off", Detail.CONTENT, Detail.OFF),
        ("Content!", Detail.CONTENT, Detail.FIGURES),
        ("Content!", Detail.OFF, Detail.OFF),
        (["content"], Detail.CONTENT, Detail.FIGURES),
    ],
)
def test_a_key_decides_and_what_nobody_knows_never_shows_text(of_key: Any, default: Detail, expected: Detail) -> None:
    metadata = {"user_api_key_metadata": {"corral_traces": of_key} if of_key else {}}
    assert detail_of(metadata, default) is expected


ENVIRONMENT = {
    "LANGFUSE_OTEL_HOST": "http://127.0.0.1:9", "LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"LANGFUSE_PUBLIC_KEY": ""}, "nothing is traced: LANGFUSE_PUBLIC_KEY not set"),
        ({"CORRAL_TRACES": "all"}, "CORRAL_TRACES is 'all', and must be one of off, figures, content"),
        ({"LANGFUSE_SAMPLE_RATE": "2"}, "LANGFUSE_SAMPLE_RATE is '2', and must be a number from 0 to 1"),
    ],
)
def test_a_wrong_environment_is_named(
    change: dict[str, str], said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "provider", lambda *_: TracerProvider(shutdown_on_exit=False))
    made = Traces.from_environment({**ENVIRONMENT, **change})
    assert said in caplog.text
    assert not made.wants_text({})


async def test_sampling_keeps_its_share() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(sampler=delivery.sampler(0.25), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    traces = Traces(provider, Detail.FIGURES)
    for _ in range(2000):
        await traces.async_log_success_event({"standard_logging_object": PAYLOAD}, None, None, None)
    assert 350 < len(kept.get_finished_spans()) < 650  # 500; a standard deviation is 19


class Hanging(SpanExporter):
    """Takes a batch and does not come back."""

    def __init__(self) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()

    def export(self, spans: object) -> SpanExportResult:
        self.entered.set()
        self.go_on.wait(60)
        return SpanExportResult.SUCCESS


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    exporter = Hanging()
    yield exporter
    exporter.go_on.set()


async def test_spans_that_wait_for_a_langfuse_that_hangs_are_bounded(hanging: Hanging) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    batches = delivery.in_batches(hanging)
    provider.add_span_processor(batches)
    traces = Traces(provider, Detail.FIGURES)
    for _ in range(delivery.QUEUED * 5):
        await traces.async_log_success_event({"standard_logging_object": PAYLOAD}, None, None, None)
    assert hanging.entered.wait(10)
    assert len(batches._batch_processor._queue) <= delivery.QUEUED
    hanging.go_on.set()
    provider.shutdown()


@pytest.fixture
def refused() -> Iterator[tuple[delivery.Delivery, list[float]]]:
    clock = [0.0]
    made = delivery.Delivery("http://127.0.0.1:9", "pk", "sk", lambda: clock[0])  # discard: nobody listens
    yield made, clock
    made.shutdown()


def test_an_outage_is_told_once_and_batches_meanwhile_are_dropped_at_once(
    refused: tuple[delivery.Delivery, list[float]], caplog: pytest.LogCaptureFixture
) -> None:
    exporter, clock = refused
    caplog.set_level(logging.WARNING)
    spans = [ReadableSpan("a")]
    assert exporter.export(spans) is SpanExportResult.FAILURE
    assert "takes no traces, requests go on without: no answer" in caplog.text
    told = len(caplog.records)
    for _ in range(50):
        assert exporter.export(spans) is SpanExportResult.FAILURE
    assert len(caplog.records) == told
    clock[0] += delivery.REST_S
    assert exporter.export(spans) is SpanExportResult.FAILURE  # tried again; the outage is known
    assert len([record for record in caplog.records if record.name == "corral.traces"]) == 1
