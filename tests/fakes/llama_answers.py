"""What the fake llama-server says: the bodies and events of b10434, with made-up words in them.

`tests/integration/gpu_server/test_fake_llama_server.py` holds every shape here against the real server.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

BUILD = "b0-fake"
MADE_AT = 1_700_000_000
COUNTERS = (
    "prompt_tokens_total", "prompt_tokens_cached_total", "prompt_seconds_total", "tokens_predicted_total",
    "tokens_predicted_seconds_total", "n_decode_total", "n_tokens_max", "prompt_tokens_seconds",
    "predicted_tokens_seconds", "requests_processing", "requests_deferred", "n_busy_slots_per_decode",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """One generation: its words, what it cost, and under which name and id it is told."""

    model: str
    task: int
    words: tuple[str, ...]
    prompt_tokens: int
    include_usage: bool = False

    @property
    def text(self) -> str:
        return "".join(self.words)

    def timings(self) -> Json:
        predicted = len(self.words)
        return {
            "cache_n": 0, "prompt_n": self.prompt_tokens, "prompt_ms": 1.5, "prompt_per_token_ms": 0.5,
            "prompt_per_second": 2000.0, "predicted_n": predicted, "predicted_ms": 2.0 * predicted + 0.1,
            "predicted_per_token_ms": 2.0, "predicted_per_second": 500.0,
        }  # fmt: skip

    def openai_usage(self) -> Json:
        total = self.prompt_tokens + len(self.words)
        return {
            "completion_tokens": len(self.words), "prompt_tokens": self.prompt_tokens, "total_tokens": total,
            "prompt_tokens_details": {"cached_tokens": 0},
        }  # fmt: skip

    def responses_usage(self) -> Json:
        total = self.prompt_tokens + len(self.words)
        return {
            "input_tokens": self.prompt_tokens, "output_tokens": len(self.words), "total_tokens": total,
            "input_tokens_details": {"cached_tokens": 0},
        }  # fmt: skip


def event(document: Json | str, name: str | None = None) -> bytes:
    """Return one server-sent event as llama-server frames it."""
    data = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


class Chat:
    """/v1/chat/completions."""

    @staticmethod
    def whole(answer: Answer) -> Json:
        message = {"role": "assistant", "content": answer.text}
        return {
            "choices": [{"finish_reason": "length", "index": 0, "message": message}],
            "created": MADE_AT, "model": answer.model, "system_fingerprint": BUILD, "object": "chat.completion",
            "usage": answer.openai_usage(), "id": f"chatcmpl-{answer.task}", "timings": answer.timings(),
        }  # fmt: skip

    @classmethod
    def opening(cls, answer: Answer) -> list[bytes]:
        return [event(cls._chunk(answer, {"role": "assistant", "content": None}))]

    @classmethod
    def word(cls, answer: Answer, word: str) -> bytes:
        return event(cls._chunk(answer, {"content": word}))

    @classmethod
    def closing(cls, answer: Answer) -> list[bytes]:
        last = cls._chunk(answer, {}, "length")
        if not answer.include_usage:
            return [event({**last, "timings": answer.timings()}), event("[DONE]")]
        cost = {"usage": answer.openai_usage(), "timings": answer.timings()}
        return [event(last), event({**last, "choices": [], **cost}), event("[DONE]")]

    @staticmethod
    def _chunk(answer: Answer, delta: Json, finish: str | None = None) -> Json:
        return {
            "choices": [{"finish_reason": finish, "index": 0, "delta": delta}],
            "created": MADE_AT, "id": f"chatcmpl-{answer.task}", "model": answer.model,
            "system_fingerprint": BUILD, "object": "chat.completion.chunk",
        }  # fmt: skip


class Completion:
    """/v1/completions."""

    @classmethod
    def whole(cls, answer: Answer) -> Json:
        cost = {"usage": answer.openai_usage(), "timings": answer.timings()}
        return {**cls._chunk(answer, answer.text, "length"), **cost}

    @staticmethod
    def opening(_answer: Answer) -> list[bytes]:
        return []

    @classmethod
    def word(cls, answer: Answer, word: str) -> bytes:
        return event(cls._chunk(answer, word))

    @classmethod
    def closing(cls, answer: Answer) -> list[bytes]:
        cost = {"usage": answer.openai_usage(), "timings": answer.timings()}
        return [event({**cls._chunk(answer, "", "length"), **cost}), event("[DONE]")]

    @staticmethod
    def _chunk(answer: Answer, text: str, finish: str | None = None) -> Json:
        return {
            "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}],
            "created": MADE_AT, "model": answer.model, "system_fingerprint": BUILD, "object": "text_completion",
            "id": f"chatcmpl-{answer.task}",
        }  # fmt: skip


class Responses:
    """/v1/responses."""

    @classmethod
    def whole(cls, answer: Answer) -> Json:
        head = {"completed_at": MADE_AT, "created_at": MADE_AT, "id": f"resp_{answer.task}", "model": answer.model}
        return {
            **head, "object": "response", "output": [cls._message(answer)], "status": "completed",
            "usage": answer.responses_usage(),
        }  # fmt: skip

    @classmethod
    def opening(cls, answer: Answer) -> list[bytes]:
        response = {"id": f"resp_{answer.task}", "object": "response", "status": "in_progress"}
        message = {**cls._message(answer), "content": [], "status": "in_progress"}
        part = {"item_id": message["id"], "part": {"type": "output_text", "text": ""}}
        return [
            cls._event("response.created", {"response": response}),
            cls._event("response.in_progress", {"response": response}),
            cls._event("response.output_item.added", {"item": message}),
            cls._event("response.content_part.added", part),
        ]

    @classmethod
    def word(cls, answer: Answer, word: str) -> bytes:
        return cls._event("response.output_text.delta", {"item_id": f"msg_{answer.task}", "delta": word})

    @classmethod
    def closing(cls, answer: Answer) -> list[bytes]:
        message = cls._message(answer)
        item_id = message["id"]
        response = {
            "id": f"resp_{answer.task}", "object": "response", "created_at": MADE_AT, "status": "completed",
            "model": answer.model, "output": [message], "usage": answer.responses_usage(),
        }  # fmt: skip
        return [
            cls._event("response.output_text.done", {"item_id": item_id, "text": answer.text}),
            cls._event("response.content_part.done", {"item_id": item_id, "part": message["content"][0]}),
            cls._event("response.output_item.done", {"item": message}),
            cls._event("response.completed", {"response": response, "timings": answer.timings()}),
        ]

    @staticmethod
    def _message(answer: Answer) -> Json:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}
        return {
            "content": [part], "id": f"msg_{answer.task}", "role": "assistant", "status": "completed",
            "type": "message",
        }  # fmt: skip

    @staticmethod
    def _event(name: str, fields: Json) -> bytes:
        return event({"type": name, **fields}, name)


class Messages:
    """/v1/messages, Anthropic's."""

    @staticmethod
    def whole(answer: Answer) -> Json:
        usage = {"cache_read_input_tokens": 0, "input_tokens": answer.prompt_tokens, "output_tokens": len(answer.words)}
        return {
            "id": f"chatcmpl-{answer.task}", "type": "message", "role": "assistant",
            "content": [{"type": "text", "text": answer.text}], "model": answer.model,
            "stop_reason": "max_tokens", "stop_sequence": None, "usage": usage,
        }  # fmt: skip

    @classmethod
    def opening(cls, answer: Answer) -> list[bytes]:
        usage = {"cache_read_input_tokens": 0, "input_tokens": answer.prompt_tokens, "output_tokens": 0}
        message = {**cls.whole(answer), "content": [], "stop_reason": None, "usage": usage}
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return [cls._event("message_start", {"message": message}), cls._event("content_block_start", block)]

    @classmethod
    def word(cls, _answer: Answer, word: str) -> bytes:
        return cls._event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}})

    @classmethod
    def closing(cls, answer: Answer) -> list[bytes]:
        ended = {"stop_reason": "max_tokens", "stop_sequence": None}
        return [
            cls._event("content_block_stop", {"index": 0}),
            cls._event("message_delta", {"delta": ended, "usage": {"output_tokens": len(answer.words)}}),
            cls._event("message_stop", {}),
        ]

    @staticmethod
    def _event(name: str, fields: Json) -> bytes:
        return event({"type": name, **fields}, name)


Dialect = type[Chat] | type[Completion] | type[Responses] | type[Messages]
DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completion,
    "/v1/responses": Responses,
    "/v1/messages": Messages,
}
NEEDED = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/responses": "input",
    "/v1/messages": "messages",
}


def error(status: int, message: str) -> Json:
    """Return llama-server's error body."""
    kinds = {400: "invalid_request_error", 404: "not_found_error", 501: "not_supported_error"}
    kinds |= {500: "server_error", 503: "unavailable_error"}
    return {"error": {"code": status, "message": message, "type": kinds[status]}}


def models(alias: str, context: int) -> Json:
    """Return the body of /v1/models."""
    details = dict.fromkeys(("parent_model", "family", "parameter_size", "quantization_level"), "")
    old = dict.fromkeys(("modified_at", "size", "digest", "description", "parameters"), "")
    meta = dict.fromkeys(("vocab_type", "n_vocab", "n_ctx_train", "n_embd", "n_params", "size"), 1)
    listed = {
        "id": alias, "aliases": [alias], "tags": [], "object": "model", "created": int(time.time()),
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]}, "owned_by": "llamacpp",
        "meta": {**meta, "n_ctx": context, "ftype": "Q4_1"},
    }  # fmt: skip
    named = {"name": alias, "model": alias, "type": "model", "tags": [""], "capabilities": ["completion"], **old}
    return {
        "models": [{**named, "details": {**details, "format": "gguf", "families": [""]}}],
        "object": "list", "data": [listed],
    }  # fmt: skip


def embeddings(alias: str, count: int) -> Json:
    """Return the body of /v1/embeddings."""
    data = [{"embedding": [0.6, 0.8], "index": index, "object": "embedding"} for index in range(count)]
    return {"model": alias, "object": "list", "usage": {"prompt_tokens": count, "total_tokens": count}, "data": data}


def metrics(values: dict[str, float]) -> Iterator[str]:
    """Give the lines of llama-server's /metrics."""
    for name in COUNTERS:
        kind = "counter" if name.endswith(("_total", "_max")) else "gauge"
        yield f"# HELP llamacpp:{name} Fake."
        yield f"# TYPE llamacpp:{name} {kind}"
        yield f"llamacpp:{name} {values.get(name, 0)}"
