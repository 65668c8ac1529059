"""What is read of a request's body, and what is refused in it."""

import json
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_server.body import check_json, read_body
from gpu_server.errors import ApiError
from gpu_server.guard import ClientGoneError


class Guard:
    moved = 0.0


async def read(
    *chunks: bytes, headers: Mapping[bytes, bytes] | None = None, limit: int = 10, gone: bool = False
) -> bytes:
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1 or gone}
        for index, chunk in enumerate(chunks)
    ]
    if gone:
        messages.append({"type": "http.disconnect"})
    coming = iter(messages)

    async def receive() -> MutableMapping[str, Any]:
        return next(coming)

    return await read_body(headers or {}, receive, limit, Guard())


async def test_a_body_in_pieces_is_put_together() -> None:
    assert await read(b"ab", b"", b"cd") == b"abcd"


@pytest.mark.parametrize(("chunks", "headers"), [((b"123456", b"78901"), {}), ((), {b"content-length": b"11"})])
async def test_too_large_is_413_announced_or_not(chunks: tuple[bytes, ...], headers: dict[bytes, bytes]) -> None:
    with pytest.raises(ApiError) as caught:
        await read(*chunks, headers=headers)
    assert caught.value.status == 413


async def test_a_client_that_leaves_while_sending_is_gone() -> None:
    with pytest.raises(ClientGoneError):
        await read(b"ab", gone=True)


async def test_a_compressed_body_is_refused() -> None:
    with pytest.raises(ApiError, match="compressed"):
        await read(b"x", headers={b"content-encoding": b"gzip"})


REMOTE = [
    {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
    {"messages": [{"content": [{"type": "image_url", "image_url": {"url": " HTTPS://x/y.png"}}]}]},
    {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
    {"messages": [{"content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}]}]},
    {"input": [{"content": [{"type": "input_image", "image_url": "http://x"}]}]},
]


@pytest.mark.parametrize("document", REMOTE)
def test_remote_media_are_refused_unless_allowed(document: object) -> None:
    body = json.dumps(document)
    hidden = body.replace("image_url", "image\\u005furl").replace('"source"', '"\\u0073ource"')
    twice = body.replace('"image_url": ', '"image_url": {"url": "data:,"}, "image_url": ')
    for text in (body, hidden, twice):
        with pytest.raises(ApiError, match="does not fetch"):
            check_json(text.encode(), allow_remote_media=False)
        check_json(text.encode(), allow_remote_media=True)


@pytest.mark.parametrize(
    "document",
    [
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]},
        {"messages": [{"content": "see http://example.com, \\u00e4 and image_url: http://x"}]},
        {"tools": [{"function": {"parameters": {"properties": {"image_url": {"type": "string"}}}}}]},
    ],
)
def test_data_text_and_schemas_are_not_mistaken_for_remote_media(document: object) -> None:
    check_json(json.dumps(document).encode(), allow_remote_media=False)


def test_deep_nesting_is_a_400_and_not_a_crash() -> None:
    with pytest.raises(ApiError) as caught:
        check_json(b'{"image_url":' + b"[" * 200_000, allow_remote_media=False)
    assert caught.value.status == 400


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: b'{"image_url' + text.encode()))
def test_any_bytes_are_taken_or_refused_as_400(body: bytes) -> None:
    refusal = None
    try:
        check_json(body, allow_remote_media=False)
    except ApiError as error:
        refusal = error
    assert refusal is None or (refusal.status == 400 and json.loads(refusal.body())["error"]["message"])
