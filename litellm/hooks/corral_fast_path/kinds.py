"""The kinds of request that the fast path relays, and what differs between them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile

Body = Mapping[str, Any]

_JSON = (None, "json", "verbose_json")
"""Formats of a transcription that are JSON; llama-server knows no other."""

_ALSO_NEEDED: Mapping[str, tuple[str, ...]] = {"anthropic_messages": ("max_tokens",), "arerank": ("documents",)}


@dataclass(frozen=True)
class Kind:
    """One endpoint of the gate.

    Attributes:
        path: below `/v1`; the same at the gate and at a server.
        call_type: LiteLLM's name of the call, by which it logs and prices it.
        plain: says whether the prompt of a body has the shape that this endpoint asks for.
        prompt: the key of the body that holds the prompt.
        end: what every whole stream of this kind has near its end, in one of these spellings; a stream that ends
            without has been cut off. Empty where nothing is streamed.
        closes_with_usage: whether a stream ends with an event of its own for the usage, which a client that did not
            ask for it must not see.
        metadata: where LiteLLM keeps what it knows of a request of this kind.
        cut_off: the event that tells a client that its stream is not whole.
        is_form: whether it comes as a form with a file, not as JSON.
    """

    path: str
    call_type: str
    prompt: str
    plain: Callable[[Any], bool] = field(repr=False)
    end: tuple[bytes, ...] = ()
    closes_with_usage: bool = False
    metadata: str = "metadata"
    cut_off: bytes = b""
    is_form: bool = False

    def takes(self, body: Body) -> bool:
        """Say whether a body has the prompt that this kind asks for, in a shape that needs no translation."""
        others = (name for name in _ALSO_NEEDED.get(self.call_type, ()) if not body.get(name))
        other_format = self.is_form and body.get("response_format") not in _JSON
        return self.plain(body.get(self.prompt)) and not any(others) and not other_format

    def for_routing(self, request: Body) -> dict[str, Any]:
        """Return the prompt as LiteLLM's router wants to see it, as `messages` or `input`."""
        prompt = request.get(self.prompt)
        if self.prompt == "messages":
            return {"messages": prompt}
        if self.call_type == "atext_completion":
            return {"messages": [{"role": "user", "content": prompt}]}
        return {"input": prompt} if self.prompt == "input" else {}


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _text_or_tokens(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(one, (str, int)) for one in value)


def _texts(value: Any) -> bool:
    """Token arrays are left out: LiteLLM turns them into text for servers of this kind."""
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
    )


def _text_or_items(value: Any) -> bool:
    return _text(value) or _messages(value)


def _file(value: Any) -> bool:
    return isinstance(value, UploadFile) and value.filename is not None


_SAYING = '"the server broke off in the middle of its answer; ask again"'
_OPENAI = (f'data: {{"error":{{"message":{_SAYING},"type":"upstream_error","param":null,"code":"502"}}}}\n\n').encode()
_ANTHROPIC = (f'event: error\ndata: {{"type":"error","error":{{"type":"api_error","message":{_SAYING}}}}}\n\n').encode()
_RESPONSES = (
    f'event: error\ndata: {{"type":"error","code":"server_error","message":{_SAYING},"param":null}}\n\n'
).encode()

_DONE = (b"data: [DONE]", b"data:[DONE]")
_RESPONSE_ENDS = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"')

KINDS = (
    Kind(
        "/chat/completions",
        "acompletion",
        "messages",
        _messages,
        end=_DONE,
        closes_with_usage=True,
        cut_off=_OPENAI,
    ),
    Kind(
        "/completions",
        "atext_completion",
        "prompt",
        _text_or_tokens,
        end=_DONE,
        closes_with_usage=True,
        cut_off=_OPENAI,
    ),
    Kind("/embeddings", "aembedding", "input", _texts),
    Kind(
        "/messages",
        "anthropic_messages",
        "messages",
        _messages,
        end=(b'"message_stop"',),
        metadata="litellm_metadata",
        cut_off=_ANTHROPIC,
    ),
    Kind(
        "/responses",
        "aresponses",
        "input",
        _text_or_items,
        end=_RESPONSE_ENDS,
        metadata="litellm_metadata",
        cut_off=_RESPONSES,
    ),
    Kind("/rerank", "arerank", "query", _text),
    Kind("/audio/transcriptions", "atranscription", "file", _file, is_form=True),
)
