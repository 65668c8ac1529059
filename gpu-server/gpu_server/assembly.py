"""What chats and completions are made into on their way to llama-server, so that it notices when their client leaves.

llama-server drops the work on a stream 0.02 s after its connection closed, because writing to it fails. While it has
nothing to write (in prefill, or all the time for an answer that is not streamed) it looks once a second at best, and
not at all while other slots produce tokens: each of those starts that second anew. So it is always given something to
write: every answer is asked for as a stream, with the progress of the prompt. The progress is taken out again, and a
client that wants no stream gets the answer that llama-server would have given, put together here: the same fields in
the same order with the same values.

`form` is the only place where a request's body is changed: fields are added at its end (llama-server takes the last of
two equal keys), the rest stays byte for byte. Requests that use what is not put together here go as they are.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from gpu_server.usage import Usage, read_usage

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
PROGRESS = b'"prompt_progress":{'  # in an event; in a text its quotes are escaped
_ASK_PROGRESS = b'"return_progress":true}'
_STREAM = b'"stream":true,"stream_options":{"include_usage":true},'
_STREAM_ASKED = re.compile(rb'"stream"\s*:\s*true')
_SEVERAL_PROMPTS = re.compile(rb'"prompt"\s*:\s*\[')
_LEFT_ALONE = ("verbose", "return_progress")  # answers of these say more than is put together or taken out here
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_parse = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Form:
    """A request as llama-server gets it."""

    body: bytes
    assemble: bool  # the client wants no stream
    changed: bool = True


class IncompleteError(Exception):
    """The stream ended before the answer was whole, or was not understood."""


class StreamError(Exception):
    """llama-server reported an error in the stream."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body
        super().__init__(body)


def form(path: str, body: bytes) -> Form | None:
    """Return the form in which to ask for an answer; None if the body must go as it is.

    That is so for other routes, and for a few fields, wherever in the JSON they are: a false alarm costs only the quick
    cancelling. llama-server cuts log probabilities at a stop word in a whole answer, but has sent them in a stream.
    """
    if path not in (CHAT, TEXT) or any(b'"%s"' % name.encode() in body for name in _LEFT_ALONE):
        return None
    streamed = _STREAM_ASKED.search(body) is not None
    if not streamed and b'"stop"' in body and (b'"logprobs"' in body or b'"n_probs"' in body):
        return None
    if streamed and _SEVERAL_PROMPTS.search(body):
        return None  # their streams begin with an event (`null`) that asking for progress would take away
    if b"\\u" in body and _hides_a_field(body):
        return None
    end = body.rstrip()
    if not end.endswith(b"}"):
        return None
    fields = end[:-1].rstrip()
    comma = b"" if fields.endswith(b"{") else b","
    return Form(b"".join((fields, comma, b"" if streamed else _STREAM, _ASK_PROGRESS)), assemble=not streamed)


def _hides_a_field(body: bytes) -> bool:
    """Say whether a field that matters is written with escapes, or the body is not understood."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return True
    if not isinstance(document, dict):
        return True
    return any(name in document and b'"%s"' % name.encode() not in body for name in ("stream", "stop", *_LEFT_ALONE))


def without_progress(events: bytes) -> bytes:
    """Return whole `events` without those that only tell of the prompt's progress."""
    kept = [event for event in events.split(b"\n\n") if PROGRESS not in event]
    return b"\n\n".join(kept)


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
        try:
            for line in events.decode().split("\n"):
                if line == "data: [DONE]":
                    self._done = True
                elif line.startswith("data: "):
                    self._take(_parse(line, 6)[0])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise IncompleteError(f"{error!r} in {events[:200]!r}") from error

    def _take(self, event: dict[str, Any] | None) -> None:
        if event is None:
            return  # llama-server begins the stream of several prompts so
        if "error" in event:
            status = event["error"].get("code")
            raise StreamError(status if isinstance(status, int) and 400 <= status < 600 else 500, _utf8(event))
        if "prompt_progress" in event:
            return
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

    def answer(self) -> tuple[bytes, Usage | None]:
        """Return the body of the whole answer, and what it cost.

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
        return _utf8(answer), read_usage([answer])


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
