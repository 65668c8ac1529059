"""What answers say of their cost, in every dialect that llama-server speaks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_server.usage import Rate, StreamTail, Usage, from_body

TIMINGS = {"cache_n": 30, "prompt_n": 1, "prompt_ms": 8.0, "predicted_n": 3, "predicted_ms": 16.0}


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": {"prompt_tokens": 31}, "timings": TIMINGS}, Usage(31, 3, 30, 8.0, 16.0)),
        ({"usage": {"prompt_tokens": 7, "total_tokens": 7}}, Usage(7)),
        (
            {"usage": {"input_tokens": 31, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 30}}},
            Usage(31, 5, 30),
        ),
        ({"usage": {"cache_read_input_tokens": 30, "input_tokens": 1, "output_tokens": 5}}, Usage(31, 5, 30)),
        ({"choices": []}, None),
        ({"usage": "none", "timings": [1]}, None),
        ({"usage": {"prompt_tokens": -4, "completion_tokens": "many"}}, Usage()),
    ],
)
def test_usage_of_a_whole_answer(answer: object, usage: Usage | None) -> None:
    assert from_body(json.dumps(answer).encode()) == usage


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        ([{"choices": []}, {"choices": [], "timings": TIMINGS}], Usage(31, 3, 30, 8.0, 16.0)),
        ([{"type": "response.completed", "response": {"usage": {"input_tokens": 4, "output_tokens": 2}}}], Usage(4, 2)),
        ([{"message": {"usage": {"input_tokens": 4}}}, {"usage": {"output_tokens": 2}}], Usage(4, 2)),
        ([{"choices": []}], None),
    ],
)
def test_usage_of_a_stream(events: list[object], usage: Usage | None) -> None:
    pieces = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]
    one_by_one, at_once = StreamTail(), StreamTail()
    for piece in pieces:
        one_by_one.see(piece)
    at_once.see(b"".join(pieces))
    assert one_by_one.usage() == at_once.usage() == usage


def test_a_long_stream_is_not_kept() -> None:
    tail = StreamTail()
    for index in range(1000):
        tail.see(b'data: {"timings": {"predicted_n": %d}}\n\n' % index)
    assert tail.usage() == Usage(tokens_out=999)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_fail(noise: bytes) -> None:
    from_body(b'{"usage":' + noise)
    tail = StreamTail()
    tail.see(b'data: {"timings":' + noise)
    tail.usage()


def test_a_rate_follows_what_was_lately_measured() -> None:
    rate = Rate(window=100)
    assert rate.value is None
    rate.add(10, None)
    assert rate.value is None
    rate.add(100, 1000)
    assert rate.value == 100
    for _ in range(20):
        rate.add(100, 500)
    assert rate.value == pytest.approx(200, rel=0.01)


def test_short_ends_of_cached_prompts_do_not_hide_how_fast_a_whole_prompt_is_read() -> None:
    rate = Rate(window=2000)
    rate.add(500, 1250)
    for _ in range(40):
        rate.add(10, 125)  # no more tokens than a batch's fixed cost
    assert rate.value == pytest.approx(400, rel=0.1)


def test_where_only_short_prompts_come_their_rate_is_given() -> None:
    rate = Rate(window=2000)
    rate.add(10, 125)
    assert rate.value == 80
