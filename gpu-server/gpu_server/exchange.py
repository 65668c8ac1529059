"""One proxied request, from its arrival to its last byte: what the request log and the metrics are made of."""

import itertools
import re
import secrets
import time
from collections.abc import Mapping

from gpu_server.routes import Route
from gpu_server.usage import StreamTail, Usage

_PROCESS = secrets.token_hex(8).encode()  # asking the kernel for chance once is enough: with a number it is unique
_numbers = itertools.count(1)
_KEY_HASH = re.compile(rb"[0-9A-Fa-f]{8,128}")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


class Exchange:
    """Times are `time.perf_counter()` seconds; None is what did not happen."""

    __slots__ = (
        "bytes_out", "entered", "first_byte", "key_hash", "last_byte", "outcome", "path", "request_id", "route",
        "started", "status", "streamed", "tail", "usage",
    )  # fmt: skip

    def __init__(self, route: Route, path: str, headers: Mapping[bytes, bytes]) -> None:
        given = headers.get(b"x-request-id", b"")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else b"%s-%x" % (_PROCESS, next(_numbers))
        key_hash = headers.get(b"x-corral-key-hash", b"")
        self.key_hash = key_hash.decode() if _KEY_HASH.fullmatch(key_hash) else None
        self.route = route
        self.path = path
        self.started = time.perf_counter()
        self.entered: float | None = None  # got its slot
        self.first_byte: float | None = None
        self.last_byte: float | None = None
        self.status = 0
        self.bytes_out = 0
        self.outcome = "error"  # until it is known to have ended otherwise
        self.streamed = False
        self.tail = StreamTail()
        self.usage: Usage | None = None

    @property
    def queue_s(self) -> float | None:
        """How long it waited for a slot."""
        return None if self.entered is None else self.entered - self.started

    @property
    def time_to_first_token_s(self) -> float | None:
        """From arrival to the first byte of a streamed answer."""
        return self.first_byte - self.started if self.streamed and self.first_byte is not None else None

    @property
    def time_per_output_token_s(self) -> float | None:
        """Between tokens: on the wire for streams, by llama-server's own clock otherwise."""
        usage = self.usage
        if usage is None or usage.tokens_out < 2:
            return None
        if self.streamed and self.first_byte is not None and self.last_byte is not None:
            return (self.last_byte - self.first_byte) / (usage.tokens_out - 1)
        return None if usage.predicted_ms is None else usage.predicted_ms / 1000 / usage.tokens_out

    def log_fields(self, ended: float) -> dict[str, object]:
        """Return the fields of its line in the request log; never anything a user wrote."""
        usage = self.usage
        return {
            "id": self.request_id.decode(),
            "key": self.key_hash,
            "path": self.path,
            "status": self.status,
            "outcome": self.outcome,
            "stream": self.streamed,
            "tokens_in": usage.tokens_in if usage else None,
            "tokens_out": usage.tokens_out if usage else None,
            "tokens_cached": usage.tokens_cached if usage else None,
            "bytes_out": self.bytes_out,
            "queue_ms": _ms(self.queue_s),
            "ttft_ms": _ms(self.time_to_first_token_s),
            "duration_ms": _ms(ended - self.started),
        }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
