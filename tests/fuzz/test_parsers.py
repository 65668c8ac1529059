"""Whatever comes, the parsers of bodies and of usage give a value or an ApiError, and no remote URL gets past them."""

import contextlib
import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_server.body import check_json, read_body
from gpu_server.errors import ApiError, in_openai_shape
from gpu_server.gguf_file import ModelFileError, check_model_file
from gpu_server.poller import parse_counters
from gpu_server.usage import StreamTail, Usage, from_body, read_usage

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
USAGE_KEYS = [
    "usage", "timings", "response", "message", "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens",
    "prompt_tokens_details", "input_tokens_details", "cached_tokens", "cache_read_input_tokens", "cache_n", "prompt_n",
    "predicted_n", "prompt_ms", "predicted_ms",
]  # fmt: skip
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -1, math.inf, math.nan, 1e308, 2**64])
leaves = st.none() | st.booleans() | st.text(max_size=5) | numbers
sections = st.dictionaries(st.sampled_from(USAGE_KEYS), numbers | leaves, max_size=8)
usage_like = st.dictionaries(
    st.sampled_from(USAGE_KEYS), sections | st.dictionaries(st.sampled_from(USAGE_KEYS), sections)
)
snippets = st.sampled_from(
    [b"data: ", b"\n\n", b"\n", b"event: x\n", b":\n\n", b"[DONE]", b'{"usage":', b'{"timings":{', b"}", b"null",
     b"\x00", b"\xff", b"1e999", b"NaN", b'"prompt_n":', b"[" * 50]
)  # fmt: skip
streams = st.lists(snippets | st.binary(max_size=30), max_size=20).map(b"".join)
remote_urls = st.sampled_from(
    ["http://x/", "https://x/", "HTTP://x/", "file:///etc/passwd", " http://x/", "ftp://x/", "//x/", "/etc/passwd"]
)


def is_sound(usage: Usage | None) -> None:
    """Assert that what the metrics count can be counted: no negative, infinite or NaN figure."""
    if usage is None:
        return
    for tokens in (usage.tokens_in, usage.tokens_out, usage.tokens_cached):
        assert tokens >= 0
        float(tokens)  # a counter must be able to take it
    for ms in (usage.prompt_ms, usage.predicted_ms):
        assert ms is None or (ms > 0 and math.isfinite(ms))


def is_an_api_error(error: ApiError) -> None:
    document = json.loads(error.body())
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert 400 <= error.status < 500


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()) | streams, st.booleans())
def test_any_body_passes_or_is_refused(body: bytes, allow: bool) -> None:
    try:
        check_json(body, allow_remote_media=allow)
    except ApiError as error:
        is_an_api_error(error)


@given(
    remote_urls,
    st.sampled_from(["image_url", "audio_url", "video_url", "file_url"]),
    st.booleans(),
    st.lists(st.sampled_from(["list", "dict"]), max_size=6),
    st.booleans(),
)
def test_no_remote_url_gets_past(url: str, key: str, nested: bool, wraps: list[str], escaped: bool) -> None:
    value: Any = {key: {"url": url} if nested else url}
    for wrap in wraps:
        value = [value] if wrap == "list" else {"content": value}
    body = json.dumps({"messages": value}).encode()
    if escaped:
        body = body.replace(key.encode(), "".join(f"\\u{ord(letter):04x}" for letter in key).encode())
    with pytest.raises(ApiError) as refused:
        check_json(body, allow_remote_media=False)
    assert refused.value.code == "remote_media_refused"
    check_json(body, allow_remote_media=True)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 100))
async def test_a_body_is_read_whole_or_refused_for_its_size(chunks: list[bytes], limit: int) -> None:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    pieces = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(pieces)

    whole = b"".join(chunks)
    guard = SimpleNamespace(moved=0.0)
    if len(whole) <= limit:
        assert await read_body({}, receive, limit, guard) == whole
        assert guard.moved > 0
        return
    with pytest.raises(ApiError) as refused:
        await read_body({}, receive, limit, guard)
    assert refused.value.status == 413


@given(st.lists(usage_like, max_size=4))
def test_any_usage_is_sound_or_none(documents: list[dict[str, Any]]) -> None:
    is_sound(read_usage(documents))


@given(streams | usage_like.map(lambda value: json.dumps(value | {"usage": {}}).encode()))
def test_any_answer_can_be_read_for_its_usage(body: bytes) -> None:
    is_sound(from_body(body))


@given(st.lists(streams, max_size=5))
def test_any_stream_can_be_read_for_its_usage(pieces: list[bytes]) -> None:
    tail = StreamTail()
    for piece in pieces:
        tail.see(piece)
    is_sound(tail.usage())


@given(
    st.text(max_size=200) | st.lists(st.sampled_from(["llamacpp:a 1", "llamacpp: x", "llamacpp:b NaN"])).map("\n".join)
)
def test_any_metrics_can_be_read(text: str) -> None:
    for value in parse_counters(text).values():
        assert isinstance(value, float)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps({"error": value}).encode()))
def test_any_error_gets_openais_shape(body: bytes) -> None:
    assert set(json.loads(in_openai_shape(body, 400))["error"]) == {"message", "type", "param", "code"}


@given(st.binary(max_size=300).map(lambda rest: b"GGUF" + rest))
def test_any_model_file_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    path.write_bytes(content)
    with contextlib.suppress(ModelFileError):
        check_model_file(path)
