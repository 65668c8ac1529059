"""Request bodies: read within a limit, looked at for what must not reach llama-server, never rewritten."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from gpu_server.errors import ApiError
from gpu_server.guard import ClientGoneError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
CHUNK_TIMEOUT_S = 30.0
_MEDIA_KEYS = frozenset({"image_url", "audio_url", "video_url", "file_url"})


class Mover(Protocol):
    """Who is told that the body goes on; a `Guard`."""

    moved: float


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int, guard: Mover) -> bytes:
    """Return the request's body; `guard` ends the wait for it.

    Raises:
        ApiError: Over `limit` bytes (413, before it is read where its length is announced), or encoded.
        ClientGoneError: The client hung up.
    """
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise ApiError(400, "the body is compressed; send it plain", "unsupported_encoding")
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit:
        raise too_large(limit)
    chunks = []
    size = 0
    more = True
    while more:
        message = await receive()
        guard.moved = time.perf_counter()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


def body_timeout() -> ApiError:
    """Return the error for a body that stopped coming."""
    return ApiError(400, f"the body did not come within {CHUNK_TIMEOUT_S:.0f} s", "body_timeout")


def too_large(limit: int) -> ApiError:
    """Return the error for a body over `limit` bytes."""
    return ApiError(413, f"the body is over {limit / 1048576:g} MiB, this server's MAX_BODY_MIB", "body_too_large")


def check_json(body: bytes, *, allow_remote_media: bool) -> None:
    r"""Refuse what llama-server would choke on, or fetch from elsewhere.

    The body is parsed only if it may name a URL: a `_url` or `source` key, or one hidden behind a `\u` escape.

    Raises:
        ApiError: The body is no JSON object, or asks for remote media that is not allowed.
    """
    if not body.strip().startswith(b"{"):
        raise ApiError(400, "the body must be a JSON object", "invalid_json")
    if allow_remote_media or not (b"_url" in body or b'"source"' in body or b"\\u" in body):
        return
    try:
        json.loads(body, object_pairs_hook=_refuse_remote_media)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"the body is not valid JSON: {reason}", "invalid_json") from None


def _refuse_remote_media(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; as a hook it also sees keys that are given twice, whichever one llama-server takes."""
    for key, value in pairs:
        url = value.get("url") if isinstance(value, dict) else value
        remote = key in _MEDIA_KEYS and isinstance(url, str) and url.lstrip()[:5].lower() != "data:"
        remote = remote or (key == "source" and isinstance(value, dict) and value.get("type") == "url")
        if remote:
            raise ApiError(
                400,
                f"{key} points elsewhere, and this server does not fetch; send the data itself (data:...;base64,...), "
                "or have its keeper set ALLOW_REMOTE_MEDIA=true",
                "remote_media_refused",
                param=key,
            )
    return dict(pairs)
