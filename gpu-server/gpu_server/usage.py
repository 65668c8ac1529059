"""What an answer cost: tokens and times, read from the `timings` and `usage` that llama-server puts into answers."""

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

_MOST = 2**53
_SECTION_BYTES = 4096  # more than any usage or timings take
_parse = json.JSONDecoder().raw_decode
_KEPT_PIECES = 2  # usage and timings may come in two events


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, and llama-server's own times in ms where it gave them."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    prompt_ms: float | None = None  # for tokens_in - tokens_cached
    predicted_ms: float | None = None


def read_usage(documents: list[dict[str, Any]]) -> Usage | None:
    """Return the usage in an answer's JSON objects (one, or the last of a stream), None if they tell nothing."""
    usage: dict[str, Any] = {}
    timings: dict[str, Any] = {}
    for document in documents:
        # /v1/responses wraps its last event so, /v1/messages its first
        for layer in (document, _section(document, "response"), _section(document, "message")):
            usage.update(_section(layer, "usage"))
            timings.update(_section(layer, "timings"))
    if timings:
        cached = _count(timings.get("cache_n"))
        return Usage(
            tokens_in=_count(timings.get("prompt_n")) + cached,
            tokens_out=_count(timings.get("predicted_n")),
            tokens_cached=cached,
            prompt_ms=_time(timings.get("prompt_ms")),
            predicted_ms=_time(timings.get("predicted_ms")),
        )
    if not usage:
        return None
    details = _section(usage, "prompt_tokens_details") or _section(usage, "input_tokens_details")
    cached_apart = _count(usage.get("cache_read_input_tokens"))  # Anthropic counts those beside input_tokens
    return Usage(
        tokens_in=_count(usage.get("prompt_tokens", usage.get("input_tokens"))) + cached_apart,
        tokens_out=_count(usage.get("completion_tokens", usage.get("output_tokens"))),
        tokens_cached=_count(details.get("cached_tokens")) + cached_apart,
    )


def from_body(body: bytes) -> Usage | None:
    """Return the usage of a whole JSON answer; of the rest, a page of numbers maybe, nothing is parsed."""
    found = {name: section for name in ("usage", "timings") if (section := _last_section(body, name)) is not None}
    return read_usage([found]) if found else None


def _last_section(body: bytes, name: str) -> object:
    """Return the value of the last field `name`. What a user wrote cannot pass for one: its quotes are escaped."""
    at = body.rfind(b'"%s":' % name.encode())
    if at < 0:
        return None
    text = body[at + len(name) + 3 :][:_SECTION_BYTES].decode("utf-8", "replace").lstrip()
    try:
        return _parse(text)[0]
    except (ValueError, RecursionError):
        return None


class StreamTail:
    """Keeps the pieces of a stream that may carry usage, and reads them when it ended."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def see(self, events: bytes) -> None:
        """Look at whole events; costs two searches in a few hundred bytes."""
        if b'"timings"' in events or b'"usage"' in events:
            self._pieces.append(events)
            del self._pieces[:-_KEPT_PIECES]

    def usage(self) -> Usage | None:
        """Return what the stream said of its cost."""
        lines = b"\n".join(self._pieces).split(b"\n")
        told = [
            line[5:] for line in lines if line.startswith(b"data:") and (b'"timings"' in line or b'"usage"' in line)
        ]
        return read_usage(_objects(told[-_KEPT_PIECES:]))


class Rate:
    """Tokens per second, of which the last ~`window` tokens count: least squares of seconds on tokens.

    A few tokens take as long as a full batch of them. In a plain mean the short ends of prompts that are mostly cached
    would so make a server look many times slower than it reads a whole prompt.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._squares = 0.0  # of tokens
        self._products = 0.0  # tokens x seconds

    def add(self, tokens: int, ms: float | None) -> None:
        """Count `tokens` made in `ms`."""
        if not ms or tokens <= 0:
            return
        keep = self._window / (self._window + tokens)
        self._squares = self._squares * keep + tokens * tokens
        self._products = self._products * keep + tokens * ms / 1000

    @property
    def value(self) -> float | None:
        """Tokens per second, None before the first answer."""
        return round(self._squares / self._products, 2) if self._products else None


def _objects(texts: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for text in texts:
        try:
            document = json.loads(text.decode())
        except (ValueError, RecursionError):
            continue  # [DONE], or not ours to understand
        if isinstance(document, dict):
            found.append(document)
    return found


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _count(value: object) -> int:
    return int(value) if _is_sound(value) else 0


def _time(value: object) -> float | None:
    return float(value) if _is_sound(value) else None


def _is_sound(value: object) -> TypeGuard[int | float]:
    """Say whether it is a figure that a counter can take: JSON also gives infinity, NaN and endless integers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST
