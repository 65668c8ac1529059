"""Whole answers put together from streams: what no small real model can be made to say. The rest is checked against
the real server in integration/gpu_server/test_assembled.py.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_server.assembly import CHAT, TEXT, Assembler, IncompleteError, StreamError, form, without_progress

ADDED = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
OUTER = {
    "created": 1,
    "id": "chatcmpl-1",
    "model": "chat",
    "system_fingerprint": "b1",
    "object": "chat.completion.chunk",
}
USAGE = {"usage": {"completion_tokens": 3}, "timings": {"predicted_n": 3}}


def stream(*events: object, done: bool = True) -> bytes:
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return (text + ("data: [DONE]\n\n" if done else "")).encode()


def piece(delta: dict[str, object], finish: str | None = None, index: int = 0) -> dict[str, object]:
    return {"choices": [{"finish_reason": finish, "index": index, "delta": delta}], **OUTER}


def whole(path: str, events: bytes) -> dict[str, object]:
    assembler = Assembler(path)
    assembler.feed(events)
    body, _ = assembler.answer()
    return dict(json.loads(body))


def test_tool_calls_have_their_arguments_joined() -> None:
    def call(index: int, **fields: object) -> dict[str, object]:
        return piece({"tool_calls": [{"index": index, **fields}]})

    answer = whole(
        CHAT,
        stream(
            piece({"role": "assistant", "content": None}),
            call(0, id="a", type="function", function={"name": "weather", "arguments": "{"}),
            call(0, function={"arguments": '"city":"Pa'}),
            call(0, function={"arguments": 'ris"}'}),
            call(1, id="b", type="function", function={"name": "time", "arguments": "{}"}),
            piece({}, "tool_calls"),
            {"choices": [], **OUTER, **USAGE},
        ),
    )
    assert answer["choices"] == [
        {
            "finish_reason": "tool_calls",
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}, "id": "a"},
                    {"type": "function", "function": {"name": "time", "arguments": "{}"}, "id": "b"},
                ],
            },
        }
    ]
    assert answer["object"] == "chat.completion"


def test_a_refusal_is_joined_and_unknown_outer_fields_are_kept() -> None:
    end = {"choices": [], **OUTER, **USAGE, "service_tier": "x"}
    answer = whole(CHAT, stream(piece({"refusal": "I "}), piece({"refusal": "won't"}), piece({}, "stop"), end))
    assert answer["choices"][0]["message"]["refusal"] == "I won't"  # type: ignore[index]
    assert answer["service_tier"] == "x"


def test_of_several_choices_the_first_ones_usage_is_given_whichever_ends_first() -> None:
    events = []
    for index, tokens in ((1, 7), (0, 5)):
        events += [piece({"content": f"text {index}"}, index=index), piece({}, "stop", index)]
        events += [{"choices": [], **OUTER, "usage": {"completion_tokens": tokens}}]
    answer = whole(CHAT, stream(*events))
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["text 0", "text 1"]  # type: ignore[attr-defined]
    assert answer["usage"] == {"completion_tokens": 5}


@pytest.mark.parametrize(
    "events",
    [
        stream(piece({"content": "a"}), done=False),
        stream(piece({"content": "a"})),
        stream(piece({}, "stop"), {"choices": [], **OUTER, **USAGE}, done=False),
        b"data: [DONE]\n\n",
        b"",
        b'data: {"choices": [{}]}\n\n',
        b"data: {\n\n",
        b"data: [1]\n\n",
        b"data: \xff\n\n",
    ],
)
def test_an_answer_that_is_not_whole_is_never_given(events: bytes) -> None:
    with pytest.raises(IncompleteError):
        whole(CHAT, events)


def test_an_error_in_the_stream_keeps_its_status() -> None:
    with pytest.raises(StreamError) as caught:
        whole(
            CHAT, stream({"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}})
        )
    assert caught.value.status == 500
    assert b"Context size" in caught.value.body


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(noise: bytes) -> None:
    assembler = Assembler(CHAT)
    try:
        assembler.feed(b"data: {" + noise)
        assembler.feed(b"data: " + noise)
        assembler.answer()
    except (IncompleteError, StreamError):
        return
    raise AssertionError("noise made an answer")


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"prompt":"x"}', {"prompt": "x", "stream": True}),
        (b'{"prompt":"x","stream":false} \n', {"prompt": "x", "stream": True}),
        (b'{"stream": null, "prompt":"say \\"stream\\": true"}', {"stream": True, "prompt": 'say "stream": true'}),
        (b"{}", {"stream": True}),
        (b'{"prompt":"\\u00e4"}', {"prompt": "ä", "stream": True}),
    ],
)
def test_a_stream_is_asked_for_without_touching_the_rest(body: bytes, asked: dict[str, object]) -> None:
    asked_for = form(TEXT, body)
    assert asked_for is not None
    assert asked_for.assemble
    assert json.loads(asked_for.body) == {**asked, **ADDED}
    assert asked_for.body.startswith(body.rstrip().removesuffix(b"}"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b'{"\\u0073tream": true}'),
        (CHAT, b'{"return_progress": true}'),
        (TEXT, b'{"prompt": ["a", "b"], "stream": true}'),
        (CHAT, b'{"logprobs": true, "stop": "x"}'),
        (CHAT, b'{"logprobs": true, "\\u0073top": "x"}'),
        (CHAT, b'{"verbose": true}'),
        (CHAT, b'{"\\u0076erbose": true}'),
        (CHAT, b'{"messages": [1, "\\u'),
        (CHAT, b'{"messages":'),
        ("/v1/responses", b"{}"),
        ("/v1/embeddings", b"{}"),
    ],
)
def test_what_is_not_put_together_goes_as_it_is(path: str, body: bytes) -> None:
    assert form(path, body) is None


def test_a_stream_is_only_asked_for_its_progress_which_is_taken_out_again() -> None:
    asked = form(CHAT, b'{"stream" : true}')
    assert asked is not None
    assert not asked.assemble
    assert asked.body == b'{"stream" : true,"return_progress":true}'
    progress = stream({**piece({"role": "assistant"}), "prompt_progress": {"total": 9}}, done=False)
    progress = progress.replace(b'"prompt_progress": {', b'"prompt_progress":{')
    token = stream(piece({"content": 'say "prompt_progress":{'}), done=False)
    assert without_progress(progress + progress) == b""
    assert without_progress(progress + token + token) == token + token
    assert without_progress(token) == token
