"""Errors as clients see them: OpenAI's shape, one class for every status of contract 2."""

import json
import re
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

# What llama-server says with a 500 when a request cannot be read (`std::runtime_error` in its server-common.cpp,
# server-chat.cpp, chat.cpp and server-schema.cpp); whatever goes wrong later, in the work itself, says none of these.
_UNREADABLE = re.compile(
    rb"\[json\.exception\.|Failed to parse (messages|tools)|is required|Unsupported param|Only no echo is supported"
    rb"|Cannot (specify|use) both|Cannot specify grammar|input is not supported|does not support multimodal"
    rb"|Invalid base64 value|Failed to load image or audio|[Tt]ool call arguments|must be an? "
)


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


def blames_request(status: int, body: bytes, *, works: bool) -> bool:
    """Say whether a 500 of llama-server means a 400: it could not read the request.

    A router would try such a request on every server, and think ill of each.

    Args:
        status: of its answer.
        body: of its answer.
        works: whether the route uses the model; one that does not can only fail by what it was given.
    """
    return status == 500 and (not works or _UNREADABLE.search(body) is not None)


def in_openai_shape(body: bytes, status: int) -> bytes:
    """Return llama-server's error `body` with the four fields OpenAI's clients expect; its message is kept."""
    try:
        error = json.loads(body)["error"]
        message = error["message"] if isinstance(error, dict) else str(error)
        kind = error.get("type") if isinstance(error, dict) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        message, kind = body.decode("utf-8", "replace")[:500] or "llama-server refused the request", None
    code = "upstream_error" if status >= 500 else "invalid_request"
    if status < 500 and kind == "server_error":
        kind = None
    return error_body(str(message), str(kind or _TYPES.get(status, "server_error")), code)
