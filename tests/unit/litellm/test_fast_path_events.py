"""What the fast path makes of a stream, however it is cut into pieces and whatever is in it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_fast_path.events import MOST_AFTER_END, MOST_HELD, EventStream, payload
from corral_fast_path.tokens import Tokens

DONE = (b"data: [DONE]", b"data:[DONE]")
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}


def stream(**settings: Any) -> EventStream:
    return EventStream(**{"end": DONE, "hide_usage": True, "keep": False, **settings})


def through(pieces: list[bytes], **settings: Any) -> tuple[bytes, EventStream]:
    events = stream(**settings)
    out = b"".join(events.take(piece) for piece in pieces)
    return out + events.rest(), events


def lines(*documents: dict[str, Any] | str, end: str = "\n", head: str = "data: ") -> bytes:
    texts = (one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in documents)
    return "".join(f"{head}{text}{end}{end}" for text in texts).encode()


WORDS = [{"id": "a", "choices": [{"delta": {"content": f" wörd ✓ {n}"}}]} for n in range(3)]
LAST = {"id": "a", "choices": [], "usage": USAGE}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("head", ["data: ", "data:"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10**6])
def test_however_it_is_cut_and_spelt_it_goes_on_but_for_the_usage(end: str, head: str, size: int) -> None:
    words = lines(*WORDS, end=end, head=head)
    done = lines("[DONE]", end=end, head=head)
    sent = words + lines(LAST, end=end, head=head) + done
    out, events = through([sent[i : i + size] for i in range(0, len(sent), size)])
    assert out == words + done
    assert (events.tokens.prompt, events.tokens.answer, events.tokens.cached) == (7, 3, 2)
    assert events.ended


@pytest.mark.parametrize("after", [0, MOST_AFTER_END - 14, 5000])
def test_an_end_is_found_behind_much_and_before_much(after: int) -> None:
    sent = lines(*WORDS * 500, "[DONE]") + b":" * after
    out, events = through([sent])
    assert out == sent
    assert events.ended


def test_the_end_of_a_response_is_found_in_a_large_event() -> None:
    end = (b'"response.completed"',)
    sent = lines({"type": "response.completed", "response": {"id": "a", "output": ["word" * 5000]}})
    assert through([sent], end=end)[1].ended
    failed = lines({"type": "response.failed", "response": {"error": {"message": "out of tensors"}}})
    assert through([failed], end=(b'"response.failed"',))[1].error == "out of tensors"


def test_a_client_that_asked_for_usage_gets_it() -> None:
    sent = lines(*WORDS, LAST, "[DONE]")
    assert through([sent], hide_usage=False)[0] == sent


def test_usage_in_the_last_event_with_text_stays_with_it() -> None:
    sent = lines(*WORDS, {**WORDS[0], "usage": USAGE}, "[DONE]")
    out, events = through([sent])
    assert out == sent
    assert events.tokens.answer == 3


def test_usage_that_is_null_is_none() -> None:
    sent = lines({**WORDS[0], "usage": None}, "[DONE]")
    out, events = through([sent])
    assert out == sent
    assert not events.tokens.known


def test_comments_and_other_fields_go_on() -> None:
    sent = b": keep-alive\n\nevent: x\nid: 1\nretry: 5\ndata: {}\n\n" + lines("[DONE]")
    assert through([sent])[0] == sent


def test_words_that_look_like_usage_or_an_end_are_words() -> None:
    text = 'say "usage": {"prompt_tokens": 1} and "error" and\ndata: x'
    sent = lines({"choices": [{"delta": {"content": text}}]})
    out, events = through([sent])
    assert out == sent
    assert (events.tokens.known, events.error, events.events) == (False, None, 1)


def test_an_event_without_its_blank_line_waits_for_it() -> None:
    events = stream()
    assert events.take(b'data: {"id"') == b""
    assert events.take(b': "a"}\n') == b""
    assert events.take(b"\ndata: ") == b'data: {"id": "a"}\n\n'


def test_an_event_without_end_is_not_held_for_ever() -> None:
    events = stream()
    assert events.take(b"data: " + b"x" * MOST_HELD) != b""


def test_an_error_event_is_heard() -> None:
    sent = lines(WORDS[0], {"error": {"message": "out of tensors", "code": 500}})
    out, events = through([sent])
    assert (out, events.error, events.ended) == (sent, "out of tensors", False)


def test_usage_of_the_messages_endpoint_is_spread_over_its_events() -> None:
    start = {"message": {"id": "msg_1", "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 0}}}
    _, events = through([lines(start, {"type": "message_delta", "usage": {"output_tokens": 9}})], hide_usage=False)
    tokens = events.tokens
    assert (tokens.prompt, tokens.answer, tokens.cached, tokens.answer_id) == (7, 9, 2, "msg_1")


def test_what_is_kept_is_the_json_of_the_events() -> None:
    _, events = through([lines(*WORDS, "[DONE]")], keep=True)
    assert list(events.kept()) == WORDS


NO_COUNTS = (
    "many",
    7,
    [],
    {"prompt_tokens": "7"},
    {"prompt_tokens": -1},
    {"prompt_tokens": True},
    {"prompt_tokens": 10**30},
    {"completion_tokens": 1e400},
    {"prompt_tokens_details": 3},
)


@pytest.mark.parametrize("usage", NO_COUNTS)
def test_counts_that_cannot_be_are_not_taken(usage: Any) -> None:
    tokens = Tokens()
    tokens.learn({"usage": usage})
    assert not tokens.known


@given(st.binary(max_size=200), st.integers(1, 9))
def test_any_bytes_go_through_whole(data: bytes, size: int) -> None:
    out, _ = through([data[i : i + size] for i in range(0, len(data), size)], hide_usage=False)
    assert out == data


KEYS = st.sampled_from(["usage", "error", "response", "message", "choices", "id", "prompt_tokens", "input_tokens"])
ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)
)


@given(ANYTHING)
def test_any_json_is_survived(document: Any) -> None:
    through([b"data: " + json.dumps(document).encode() + b"\n\n"])


def test_an_event_of_many_lines() -> None:
    assert payload(b'event: x\ndata: {"a":\ndata: 1}\n\n') == {"a": 1}
