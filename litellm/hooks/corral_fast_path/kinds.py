"""The kinds of request that the fast path relays, and what differs between them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Body = Mapping[str, Any]


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
    """

    path: str
    call_type: str
    prompt: str
    plain: Callable[[Any], bool] = field(repr=False)
    end: tuple[bytes, ...] = ()
    closes_with_usage: bool = False
    metadata: str = "metadata"

    def takes(self, body: Body) -> bool:
        """Say whether a body has the prompt that this kind asks for, in a shape that needs no translation."""
        return self.plain(body.get(self.prompt))

    def for_routing(self, request: Body) -> dict[str, Any]:
        """Return the prompt as LiteLLM's router wants to see it, as `messages` or `input`."""
        prompt = request.get(self.prompt)
        if self.prompt == "messages":
            return {"messages": prompt}
        if self.call_type == "atext_completion":
            return {"messages": [{"role": "user", "content": prompt}]}
        return {"input": prompt}


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
    return (isinstance(value, str) and bool(value)) or _messages(value)


_DONE = (b"data: [DONE]", b"data:[DONE]")
KINDS = (
    Kind("/chat/completions", "acompletion", "messages", _messages, end=_DONE, closes_with_usage=True),
    Kind("/completions", "atext_completion", "prompt", _text_or_tokens, end=_DONE, closes_with_usage=True),
    Kind("/embeddings", "aembedding", "input", _texts),
)
