"""What a span says of a call. Everything in it is named here: what nobody listed cannot leave the gate.

Names that begin with `langfuse.` are those of Langfuse's OpenTelemetry endpoint, the others OpenTelemetry's for
generative AI (`gen_ai.`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

Value = str | int | float | bool
Payload = Mapping[str, Any]

KEY_SETTING = "corral_traces"
"""In a key's metadata: how much of its calls is traced, in place of what the farm says."""
MOST_TEXT = 64 * 1024
"""Characters of a prompt or an answer; what is beyond is cut off."""

_PARAMETERS = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed")
"""Of a request, numbers only: others (a grammar, a tool) may hold text."""
_OPERATIONS = {
    "acompletion": "chat",
    "anthropic_messages": "chat",
    "aresponses": "chat",
    "atext_completion": "text_completion",
    "aembedding": "embeddings",
}


class Detail(StrEnum):
    """How much of a call is traced."""

    OFF = "off"
    FIGURES = "figures"
    CONTENT = "content"


def detail_of(metadata: Mapping[str, Any], default: Detail) -> Detail:
    """Return how much of a request's calls is traced.

    Args:
        metadata: what LiteLLM keeps of the request; the key's own is in it.
        default: of the farm. A key whose setting is none that we know is traced no further than figures.
    """
    of_key = metadata.get("user_api_key_metadata")
    said = of_key.get(KEY_SETTING) if isinstance(of_key, Mapping) else None
    if said is None:
        return default
    return Detail(said) if said in list(Detail) else min(default, Detail.FIGURES, key=list(Detail).index)


def name_of(payload: Payload) -> str:
    """Return a span's name, as OpenTelemetry wants it: what was done, and with which model."""
    return f"{_operation(payload)} {_model(payload)}"


def attributes(payload: Payload, detail: Detail) -> dict[str, Value]:
    """Return a span's attributes.

    Args:
        payload: LiteLLM's `StandardLoggingPayload`.
        detail: `CONTENT` adds prompt, answer and an error's message.
    """
    found = dict(_figures(payload))
    if detail is Detail.CONTENT:
        found |= _content(payload)
    return {name: value for name, value in found.items() if value is not None}


def _figures(payload: Payload) -> Iterator[tuple[str, Value | None]]:
    metadata = payload.get("metadata") or {}
    alias, first = metadata.get("user_api_key_alias"), _seconds_to_first(payload)
    operation = _operation(payload)
    yield "langfuse.observation.type", "embedding" if operation == "embeddings" else "generation"
    yield "langfuse.observation.model.name", _model(payload)
    yield "langfuse.observation.model.parameters", _json(_parameters(payload))
    yield "langfuse.observation.usage_details", _json(_usage(payload))
    yield "langfuse.observation.cost_details", json.dumps({"total": payload.get("response_cost") or 0.0})
    yield "langfuse.observation.metadata.server", payload.get("model_id")
    yield "langfuse.observation.metadata.request_id", payload.get("litellm_call_id")
    yield "langfuse.observation.metadata.stream", bool(payload.get("stream"))
    yield "langfuse.trace.metadata.key_alias", alias
    yield "langfuse.trace.metadata.team_alias", metadata.get("user_api_key_team_alias")
    yield "user.id", alias  # Langfuse then sums up by application
    yield "gen_ai.operation.name", operation
    yield "gen_ai.request.model", _model(payload)
    yield "gen_ai.usage.input_tokens", payload.get("prompt_tokens")
    yield "gen_ai.usage.output_tokens", payload.get("completion_tokens")
    if first is not None:
        moment = datetime.fromtimestamp(payload["completionStartTime"], UTC)
        yield "langfuse.observation.completion_start_time", moment.isoformat().replace("+00:00", "Z")
        yield "gen_ai.response.time_to_first_chunk", first
    if payload.get("status") == "failure":
        error = payload.get("error_information") or {}
        yield "error.type", error.get("error_class") or "Error"
        yield "langfuse.observation.level", "ERROR"
        said = (error.get("error_class"), error.get("error_code"))
        yield "langfuse.observation.status_message", " ".join(str(part) for part in said if part)


def _content(payload: Payload) -> dict[str, Value | None]:
    error = payload.get("error_information") or {}
    found: dict[str, Value | None] = {"langfuse.observation.input": _text(payload.get("messages"))}
    if payload.get("status") == "failure":
        found["langfuse.observation.status_message"] = _text(error.get("error_message") or payload.get("error_str"))
    else:
        found["langfuse.observation.output"] = _text(_answer(payload.get("response")))
    return found


def _operation(payload: Payload) -> str:
    kind = str(payload.get("call_type") or "call")
    return _OPERATIONS.get(kind, kind)


def _model(payload: Payload) -> str:
    return str(payload.get("model_group") or payload.get("model") or "unknown")


def _seconds_to_first(payload: Payload) -> float | None:
    start, first, end = (payload.get(name) for name in ("startTime", "completionStartTime", "endTime"))
    if not start or not first or not end or payload.get("status") == "failure":
        return None
    return round(first - start, 6) if start <= first <= end else None


def _usage(payload: Payload) -> dict[str, int]:
    """The parts of the prompt apart, since Langfuse adds them up."""
    prompt, answer = payload.get("prompt_tokens") or 0, payload.get("completion_tokens") or 0
    if not prompt and not answer:
        return {}
    usage = (payload.get("metadata") or {}).get("usage_object") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    parts = {"input": prompt - cached, "input_cached_tokens": cached, "output": answer, "total": prompt + answer}
    return {name: count for name, count in parts.items() if count or name != "input_cached_tokens"}


def _parameters(payload: Payload) -> dict[str, float]:
    given = payload.get("model_parameters") or {}
    return {name: given[name] for name in _PARAMETERS if isinstance(given.get(name), (int, float))}


def _answer(response: Any) -> Any:
    """What was said, of an answer of any endpoint; of embeddings nothing."""
    if not isinstance(response, Mapping):
        return response
    choices = response.get("choices")
    if isinstance(choices, Sequence) and choices:
        said = [choice.get("message") or choice.get("text") for choice in choices if isinstance(choice, Mapping)]
        return said[0] if len(said) == 1 else said
    return response.get("output") or response.get("content")


def _text(value: Any) -> str | None:
    if not value:
        return None
    whole = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return whole if len(whole) <= MOST_TEXT else f"{whole[:MOST_TEXT]} ... ({len(whole)} characters)"


def _json(value: Mapping[str, float]) -> str | None:
    return json.dumps(value) if value else None
