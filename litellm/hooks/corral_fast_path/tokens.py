"""What a server says that an answer has cost: tokens of the prompt, of the answer, and of the prompt from its cache."""

from collections.abc import Mapping
from typing import Any

import orjson


def json_object(data: bytes) -> dict[str, Any] | None:
    """Parse JSON; None if it is none, or no object."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


class Tokens:
    """Counts of one answer, learned from its JSON or from the events of its stream.

    `prompt` and `answer` are None until the server has said them. The names it uses differ by endpoint: OpenAI's
    chat and completions, OpenAI's Responses, Anthropic's Messages, which spreads them over two events.
    """

    def __init__(self) -> None:
        self.prompt: int | None = None
        self.answer: int | None = None
        self.cached: int | None = None
        self.answer_id: str | None = None

    @property
    def known(self) -> bool:
        """Whether the server has said anything."""
        return self.prompt is not None or self.answer is not None

    def learn(self, document: Mapping[str, Any]) -> bool:
        """Take what an answer, or an event of one, says; return whether it says anything about tokens."""
        inner = document.get("response") or document.get("message")
        source = inner if isinstance(inner, dict) else document
        if isinstance(name := source.get("id"), str) and name:
            self.answer_id = name
        usage = document.get("usage") or source.get("usage")
        if not isinstance(usage, dict):
            return False
        self._learn(usage)
        return True

    def _learn(self, usage: Mapping[str, Any]) -> None:
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        beside = usage.get("cache_read_input_tokens")
        prompt = _count(usage.get("prompt_tokens"))
        if prompt is None:
            prompt = _count(usage.get("input_tokens"))
            if prompt is not None:  # Anthropic counts what came from the cache beside the rest, not within it
                prompt += _count(beside) or 0
        answer = _count(usage.get("completion_tokens", usage.get("output_tokens")))
        if answer is None and prompt is not None and "total_tokens" in usage:
            answer = 0  # an embedding
        self.prompt = prompt if prompt is not None else self.prompt
        self.answer = answer if answer is not None else self.answer
        self.cached = _first(_count(cached), _count(beside), self.cached)


def _count(value: Any) -> int | None:
    """A number of tokens, if it can be one: a server may say anything."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
