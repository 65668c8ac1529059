"""Errors as clients see them: OpenAI's shape, one class for every status of contract 2."""

import json
from dataclasses import dataclass

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    502: "server_error",
    503: "unavailable_error",
    504: "timeout_error",
}


@dataclass(eq=False)
class ApiError(Exception):
    """A request that cannot be answered: HTTP status, what is wrong and what to do, a code for programs."""

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after_s: int | None = None

    def body(self) -> bytes:
        """Return the JSON body."""
        return error_body(self.message, _TYPES.get(self.status, "server_error"), self.code, self.param)

    def event(self) -> bytes:
        """Return it as the server-sent event that ends a broken stream."""
        return b"event: error\ndata: " + self.body() + b"\n\n"


def error_body(message: str, kind: str, code: str, param: str | None = None) -> bytes:
    """Return `{"error": {...}}` as bytes."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def in_openai_shape(body: bytes, status: int) -> bytes:
    """Return llama-server's error `body` with the four fields OpenAI's clients expect; its message is kept."""
    try:
        error = json.loads(body)["error"]
        message = error["message"] if isinstance(error, dict) else str(error)
        kind = error.get("type") if isinstance(error, dict) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        message, kind = body.decode("utf-8", "replace")[:500] or "llama-server refused the request", None
    code = "upstream_error" if status >= 500 else "invalid_request"
    return error_body(str(message), str(kind or _TYPES.get(status, "server_error")), code)
