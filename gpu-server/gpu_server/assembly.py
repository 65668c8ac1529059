"""Whole answers out of streams, so that llama-server notices when their client leaves.

llama-server drops the work on a stream 0.02 s after its connection closed, but looks only now and then whether the
client of a whole answer is still there (measured: up to 12 s of a slot). So a chat or completion that is not to be
streamed is asked for as a stream, and put together here into what llama-server would have answered: the same fields in
the same order with the same values.

`streamed_form` is the only place where a request's body is changed: two fields are added at its end (llama-server takes
the last of two equal keys), the rest stays byte for byte. Requests that use what is not put together here are passed
through as they are.
"""

import json
import re
from typing import Any

ADDED = b'"stream":true,"stream_options":{"include_usage":true}}'
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
_STREAM_ASKED = re.compile(rb'"stream"\s*:\s*true')
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class IncompleteError(Exception):
    """The stream ended before the answer was whole, or was not understood."""


class StreamError(Exception):
    """llama-server reported an error in the stream."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body
        super().__init__(body)


def streamed_form(path: str, body: bytes) -> bytes | None:
    """Return `body` with a stream asked for; None if it must go as it is.

    That is so for other routes, for requests that want a stream already, and for `verbose` ones. A `"stream": true`
    anywhere in the JSON counts: a false alarm costs only the quick cancelling.
    """
    if path not in (CHAT, TEXT) or _STREAM_ASKED.search(body) or b'"verbose"' in body:
        return None
    if b"\\u" in body and _hides_a_field(body):
        return None
    end = body.rstrip()
    if not end.endswith(b"}"):
        return None
    fields = end[:-1].rstrip()
    return fields + (ADDED if fields.endswith(b"{") else b"," + ADDED)


def _hides_a_field(body: bytes) -> bool:
    """Say whether a field that matters is written with escapes, or the body is not understood."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return True
    return not isinstance(document, dict) or bool(document.get("stream")) or "verbose" in document


class Assembler:
    """Takes the events of one stream; `answer` gives the whole."""

    def __init__(self, path: str) -> None:
        self._chat = path == CHAT
        self._choices: dict[int, _Choice] = {}
        self._last: dict[int, dict[str, Any]] = {}  # by choice, the event that carries its usage
        self._finished = 0  # the choice that ended last: the usage that follows is its own
        self._done = False

    def feed(self, events: bytes) -> None:
        """Take whole events.

        Raises:
            StreamError: One of them is an error.
            IncompleteError: One of them is not understood.
        """
        for line in events.split(b"\n"):
            if not line.startswith(b"data: "):
                continue
            if line == b"data: [DONE]":
                self._done = True
                continue
            try:
                self._take(json.loads(line[6:]))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise IncompleteError(f"{error!r} in {line[:200]!r}") from error

    def _take(self, event: dict[str, Any] | None) -> None:
        if event is None:
            return  # llama-server begins the stream of several prompts so
        if "error" in event:
            status = event["error"].get("code")
            raise StreamError(status if isinstance(status, int) and 400 <= status < 600 else 500, _utf8(event))
        for part in event["choices"]:
            index = part["index"]
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _Choice()
            choice.add(part)
            if choice.finish_reason is not None:
                self._finished = index
        if "usage" in event:
            self._last[self._finished] = event

    def answer(self) -> bytes:
        """Return the body of the whole answer.

        Raises:
            IncompleteError: Its end has not come.
        """
        whole = self._done and all(choice.finish_reason is not None for choice in self._choices.values())
        if not whole or not self._last:
            raise IncompleteError("the stream ended early")
        first = self._last[min(self._last)]  # what llama-server gives of several choices
        indices = sorted(self._choices)
        form = _Choice.message if self._chat else _Choice.text
        answer = {
            "choices": [form(self._choices[index], index) for index in indices],
            "created": first["created"],
            "model": first["model"],
            "system_fingerprint": first.get("system_fingerprint"),
            "object": "chat.completion" if self._chat else "text_completion",
            "usage": first["usage"],
            "id": first["id"],
        }
        answer.update({name: value for name, value in first.items() if name not in answer})
        return _utf8(answer)


class _Choice:
    """One choice as it grows."""

    __slots__ = ("_calls", "_extra", "_logprobs", "_reasoning", "_role", "_text", "finish_reason")

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._role = "assistant"
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._extra: dict[str, str] = {}
        self._logprobs: dict[str, Any] | None = None

    def add(self, part: dict[str, Any]) -> None:
        """Take its next piece."""
        if part["finish_reason"] is not None:
            self.finish_reason = part["finish_reason"]
        logprobs = part.get("logprobs")
        if logprobs is not None:
            self._add_logprobs(logprobs)
        if "text" in part:
            self._text.append(part["text"])
            return
        for name, value in part["delta"].items():
            if name == "content":
                if value is not None:
                    self._text.append(value)
            elif value is not None:
                self._add_rare(name, value)

    def _add_rare(self, name: str, value: Any) -> None:
        if name == "reasoning_content":
            self._reasoning.append(value)
        elif name == "tool_calls":
            for piece in value:
                self._add_call(piece)
        elif name == "role":
            self._role = value
        else:
            self._extra[name] = self._extra.get(name, "") + value  # a refusal, say

    def _add_call(self, piece: dict[str, Any]) -> None:
        while len(self._calls) <= piece["index"]:
            self._calls.append({"type": "function", "function": {"name": "", "arguments": ""}, "id": ""})
        call = self._calls[piece["index"]]
        call["type"] = piece.get("type") or call["type"]
        call["id"] += piece.get("id") or ""
        for name, value in piece.get("function", {}).items():
            call["function"][name] = call["function"].get(name, "") + value

    def _add_logprobs(self, logprobs: dict[str, Any]) -> None:
        if self._logprobs is None:
            self._logprobs = logprobs
            return
        for name, tokens in logprobs.items():
            self._logprobs[name].extend(tokens)

    def message(self, index: int) -> dict[str, Any]:
        """Return it as a choice of a chat."""
        text = "".join(self._text)
        message: dict[str, Any] = {"role": self._role, "content": text}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["content"] = text or None
            message["tool_calls"] = self._calls
        message.update(self._extra)
        choice = {"finish_reason": self.finish_reason, "index": index, "message": message}
        if self._logprobs is not None:
            choice["logprobs"] = self._logprobs
        return choice

    def text(self, index: int) -> dict[str, Any]:
        """Return it as a choice of a completion."""
        return {
            "text": "".join(self._text),
            "index": index,
            "logprobs": self._logprobs,
            "finish_reason": self.finish_reason,
        }


def _utf8(document: dict[str, Any]) -> bytes:
    return _encode(document).encode("utf-8", "surrogatepass")
