"""The OpenAPI of a gpu-server: FastAPI's description of the control routes, and ours of the proxied ones.

llama-server defines the bodies of the proxied routes and refuses what it does not take with a 400; described here is
what must be there for a request to be one at all.
"""

from collections.abc import Mapping
from typing import Any

from gpu_server.routes import Route

Schema = dict[str, Any]

ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_CONTROL_ERRORS = {400: "A parameter is wrong.", 401: "The key is missing or wrong.", 404: "No such route."}
_PROXY_ERRORS = {
    400: "The body is wrong, or asks for what is not allowed.",
    401: "The key is missing or wrong.",
    404: "llama-server has no such model or thing.",
    413: "The body is over MAX_BODY_MIB.",
    429: "The line is full, or the wait was too long; Retry-After says when to come again.",
    500: "llama-server failed in the work itself.",
    501: "This model cannot do that.",
    502: "llama-server died while it worked on this request.",
    503: "It starts, drains or failed; Retry-After says when to come again.",
    504: "The answer did not begin, or go on, within FIRST_BYTE_TIMEOUT_S.",
}
_MESSAGES: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"enum": ["system", "user", "assistant"]}, "content": {"type": "string"}},
    },
}
_STREAM: Schema = {"type": "boolean", "description": "answer with server-sent events"}
_EVENT: Schema = {
    "type": "object",
    "description": "one server-sent event",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
_COUNT: Schema = {"type": "integer", "minimum": 1}


def _object(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


_BODIES: Mapping[str, Schema] = {
    "/v1/chat/completions": _object({"messages": _MESSAGES}, max_tokens=_COUNT, stream=_STREAM),
    "/v1/completions": _object({"prompt": {"type": "string"}}, max_tokens=_COUNT, stream=_STREAM),
    "/v1/responses": _object({"input": {"type": "string"}}, max_output_tokens=_COUNT, stream=_STREAM),
    "/v1/messages": _object({"messages": _MESSAGES, "max_tokens": _COUNT}, stream=_STREAM),
    "/apply-template": _object({"messages": _MESSAGES}),
    "/v1/embeddings": _object({
        "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    }),
    "/v1/rerank": _object({"query": {"type": "string"}, "documents": {"type": "array", "items": {"type": "string"}}}),
    "/tokenize": _object({"content": {"type": "string"}}),
    "/detokenize": _object({"tokens": {"type": "array", "items": {"type": "integer", "minimum": 0}}}),
}  # fmt: skip
_TRANSCRIPTION = _object({"file": {"type": "string", "format": "binary"}}, model={"type": "string"})


def complete(document: Schema, routes: Mapping[str, Route], open_paths: frozenset[str]) -> Schema:
    """Add to FastAPI's `document` the proxied routes, the error shape and the key."""
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {})["Error"] = ERROR
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in open_paths:
                operation["security"] = []
            else:
                operation["responses"].update(_errors(_CONTROL_ERRORS))
    for path, route in routes.items():
        document["paths"][path] = {route.method.lower(): _operation(path, route)}
    return document


def _operation(path: str, route: Route) -> Schema:
    answer: Schema = {"application/json": {"schema": {"type": "object"}}}
    body = _BODIES.get(path)
    if body is not None and "stream" in body["properties"]:
        answer["text/event-stream"] = {"schema": _EVENT}
    operation: Schema = {
        "operationId": route.operation,
        "summary": "Passed to llama-server" + (", takes a slot" if route.takes_slot else ""),
        "responses": {"200": {"description": "llama-server's answer.", "content": answer}, **_errors(_PROXY_ERRORS)},
    }
    if route.operation == "transcription":
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _TRANSCRIPTION}}}
    elif body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _errors(statuses: Mapping[int, str]) -> Schema:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": text, "content": content} for status, text in statuses.items()}
