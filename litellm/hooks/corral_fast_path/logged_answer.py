"""An answer as LiteLLM's callbacks and rows of spend want it: one object, with the text if anybody traces it.

LiteLLM's own builder makes an object of each event of a stream, some 80 us each; here their JSON is put together.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import litellm
from corral_fast_path.kinds import Kind

Document = Mapping[str, Any]


def logged_answer(kind: Kind, name: str, model: str, usage: dict[str, Any], documents: Sequence[Document]) -> Any:
    """Return LiteLLM's object of an answer.

    Args:
        kind: of the request.
        name: id of the answer.
        model: that gave it.
        usage: its tokens, by the names that LiteLLM's `Usage` has for them; of which a chat makes its own in any case.
        documents: the JSON of the answer, or of the events of its stream; none where its text is not wanted.
    """
    if kind.call_type == "aembedding":
        return litellm.EmbeddingResponse(model=model, usage=litellm.Usage(**usage), data=[])
    if kind.call_type == "atranscription":
        answer = litellm.TranscriptionResponse(text="".join(str(one.get("text") or "") for one in documents))
        answer.usage = litellm.Usage(**usage)
        return answer
    if kind.call_type == "atext_completion":
        choice = {"text": _text(documents), "index": 0, "finish_reason": _finish(documents), "logprobs": None}
        return litellm.TextCompletionResponse(id=name, model=model, usage=litellm.Usage(**usage), choices=[choice])
    try:
        choices = _choices(documents)
        answer = litellm.ModelResponse(id=name, model=model, usage=usage, choices=choices) if choices else None
    except Exception:  # noqa: BLE001  # a server may say anything; a trace without text is better than no row
        answer = None
    if answer is not None:
        return answer
    message = {"role": "assistant", "content": _said(documents)}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return litellm.ModelResponse(id=name, model=model, usage=usage, choices=[choice])


def _choices(documents: Iterable[Document]) -> list[dict[str, Any]]:
    """The choices of a chat completion, or of the events of its stream put together."""
    choices: dict[int, _Choice] = {}
    for document in documents:
        for piece in document.get("choices") or ():
            index = piece.get("index", 0)
            if "message" in piece:
                return [dict(choice) for choice in document["choices"]]
            choice = choices.get(index)
            if choice is None:
                choice = choices[index] = _Choice(index)
            choice.add(piece)
    return [choices[index].document() for index in sorted(choices)]


class _Choice:
    """One choice of a streamed chat completion."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish = "stop"

    def add(self, piece: Document) -> None:
        """Take what an event says of it."""
        for name, value in (piece.get("delta") or {}).items():
            if name == "tool_calls":
                for call in value or ():
                    self._add_call(call)
            elif isinstance(value, str) and name != "role":
                self._texts.setdefault(name, []).append(value)
        if piece.get("finish_reason"):
            self._finish = piece["finish_reason"]

    def _add_call(self, piece: Document) -> None:
        made = self._calls.setdefault(piece.get("index", 0), {"type": "function", "function": {"arguments": ""}})
        function = piece.get("function") or {}
        if piece.get("id"):
            made["id"] = piece["id"]
        if function.get("name"):
            made["function"]["name"] = function["name"]
        made["function"]["arguments"] += function.get("arguments") or ""

    def document(self) -> dict[str, Any]:
        """Return it as an answer that is not streamed has it."""
        message: dict[str, Any] = {"role": "assistant", "content": None}
        message |= {name: "".join(parts) for name, parts in self._texts.items()}
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return {"index": self._index, "finish_reason": self._finish, "message": message}


def _said(documents: Sequence[Document]) -> str:
    """The text of an answer of Anthropic's Messages or OpenAI's Responses, or of the events of its stream."""
    found: list[str] = []
    for document in documents:
        delta = document.get("delta")
        if isinstance(delta, str) and document.get("type") == "response.output_text.delta":
            found.append(delta)
        elif isinstance(delta, dict):
            found.append(str(delta.get("text") or ""))
        for item in document.get("output") or [document]:
            parts = item.get("content") if isinstance(item, dict) else None
            found += [str(part.get("text") or "") for part in parts or () if isinstance(part, dict)]
    return "".join(found)


def _text(documents: Sequence[Document]) -> str:
    return "".join(str(choice.get("text") or "") for one in documents for choice in (one.get("choices") or ())[:1])


def _finish(documents: Sequence[Document]) -> str:
    reasons = (choice.get("finish_reason") for one in documents for choice in (one.get("choices") or ())[:1])
    return str(next((reason for reason in reasons if reason), "stop"))
