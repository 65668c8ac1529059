"""Server-sent events as bytes: where they end, and what the JSON in them says about tokens.

What a client gets is what the server sent. Events are only held until they are whole, for two reasons: an event that
the client did not ask for can be left out, and a stream that breaks never ends in half an event, which would swallow
the error event after it. https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re
from collections.abc import Iterator
from typing import Any

from corral_fast_path.tokens import Tokens, json_object

_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
BOUNDARY = re.compile(_LINE_END + _LINE_END)
_LINES = re.compile(_LINE_END)
_TELLING = re.compile(rb'"usage"\s*:\s*\{|"error"|response\.failed')
"""What an event holds that says something about tokens or a failure. Within an answer's text quotes are escaped."""
_MAY_TELL = (b'"usage"', b'"error"')
"""What is in it then; to look for words takes a third of the time, for an event that has none of them."""
_MAY_TELL_OF_RESPONSES = (*_MAY_TELL, b"response.failed")
_LAST = b"[DONE]"
MOST_AFTER_END = 1 << 10
"""Bytes at the end of what came together in which an end that comes last is looked for. Where a stream has more after
it, all is looked through once the server has ended it."""

MOST_HELD = 1 << 20
"""Bytes of an unfinished event after which it goes through unread. llama-server's largest, a final event with the
logits of all its tokens, is far below."""
MOST_KEPT = 16 << 20
"""Bytes of a stream that are kept for tracing."""


class EventStream:
    """Follows one stream. `take` gives back the bytes to pass on."""

    def __init__(self, *, end: tuple[bytes, ...], hide_usage: bool, keep: bool) -> None:
        self.tokens = Tokens()
        self.events = 0
        """How many events with data have gone through."""
        self.ended = False
        """Whether the stream has said that it is whole."""
        self.error: str | None = None
        """The server's own error, if it sent one as an event."""
        self._end = end
        self._ends_last = all(mark.endswith(_LAST) for mark in end)
        self._may_tell = _MAY_TELL if self._ends_last else _MAY_TELL_OF_RESPONSES
        self._came_last = b""
        self._hide_usage = hide_usage
        self._held = b""
        self._kept: list[bytes] | None = [] if keep else None
        self._kept_size = 0

    def take(self, data: bytes) -> bytes:
        """Return what of the bytes so far can be passed on: whole events."""
        seen = max(0, len(self._held) - 3)  # no boundary begins before the last bytes of what was held
        if self._held:
            data = self._held + data
            self._held = b""
        if not data.endswith(b"\n\n"):
            data, self._held = _split(data, seen)
            if len(self._held) > MOST_HELD:
                data, self._held = data + self._held, b""
        return self._read(data) if data else data

    def rest(self) -> bytes:
        """Return what is left when the server has ended the stream: a last event without its blank line."""
        data, self._held = self._held, b""
        if not self.ended:
            self.ended = any(mark in self._came_last for mark in self._end)
        return self._read(data) if data else data

    def kept(self) -> Iterator[dict[str, Any]]:
        """The JSON of the events that went through, if it was to be kept."""
        for event in BOUNDARY.split(b"".join(self._kept or ())):
            if (found := payload(event)) is not None:
                yield found

    def _read(self, data: bytes) -> bytes:
        self.events += data.count(b"\ndata:") + data.startswith(b"data:")  # a line's end within JSON is escaped
        if not self.ended:
            start = max(0, len(data) - MOST_AFTER_END) if self._ends_last else 0
            for mark in self._end:  # not `any`: its generator would be most of this, for each token
                if data.find(mark, start) >= 0:
                    self.ended = True
            self._came_last = data
        if self._kept is not None:
            self._keep(self._kept, data)
        for word in self._may_tell:
            if word in data:
                return self._telling(data) if _TELLING.search(data) else data
        return data

    def _telling(self, data: bytes) -> bytes:
        passed, start = [], 0
        for boundary in [*(match.end() for match in BOUNDARY.finditer(data)), len(data)]:
            event, start = data[start:boundary], boundary
            if not self._learn(event):
                passed.append(event)
        return b"".join(passed)

    def _learn(self, event: bytes) -> bool:
        """Read one event; say whether it is only there because the gate asked for it."""
        found = payload(event)
        if found is None:
            return False
        response = found.get("response")
        if error := found.get("error") or (response.get("error") if isinstance(response, dict) else None):
            self.error = str(error.get("message") if isinstance(error, dict) else error)
        learned = self.tokens.learn(found)
        return learned and self._hide_usage and not found.get("choices")

    def _keep(self, kept: list[bytes], data: bytes) -> None:
        self._kept_size += len(data)
        if self._kept_size > MOST_KEPT:
            self._kept = None
        else:
            kept.append(data)


def payload(event: bytes) -> dict[str, Any] | None:
    """Return the JSON object that an event carries, None if it carries none."""
    lines = [line[5:].removeprefix(b" ") for line in _LINES.split(event) if line.startswith(b"data:")]
    return json_object(b"\n".join(lines)) if lines else None


def _split(data: bytes, start: int) -> tuple[bytes, bytes]:
    last, stop = 0, len(data) - data.endswith(b"\r")  # half a line end, perhaps
    for match in BOUNDARY.finditer(data, start, stop):
        last = match.end()
    return data[:last], data[last:]
