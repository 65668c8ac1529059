"""Turn LiteLLM's error answers into one line with a mend.

LiteLLM has several shapes: `{"error": {"message", "type", "param", "code"}}`, where the message may be the `repr` of a
dict; FastAPI's `{"detail": text}`, `{"detail": {"error": text}}` and `{"detail": [{"loc", "msg"}]}`; and, from what
sits in front of it, no JSON at all.
"""

import ast
from collections.abc import Mapping
from typing import Any

import httpx

from corral.keys.errors import GateError, InputError, KeysError

MAX_MESSAGE = 300
LOGS = "see why: make status, make logs"


def refusal(base_url: str, path: str, response: httpx.Response) -> KeysError:
    """Return the error to raise for an answer with a status of 400 or more."""
    code, (message, param) = response.status_code, _message(response)
    if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        # LiteLLM's own text repeats parts of the key.
        return GateError(
            f"the gate at {base_url} refuses the master key",
            "check LITELLM_MASTER_KEY, in the environment or in .corral/.env",
        )
    if _database_is_away(code, message):
        return GateError(f"the gate at {base_url} has no database", "see what PostgreSQL does: make status, make logs")
    if param == "key_alias" or "already exists" in message:
        return InputError(message or "the alias is refused", "choose another --alias, or see: corral keys list")
    if code == httpx.codes.NOT_FOUND and message in ("", "Not Found"):
        return GateError(f"{base_url}{path} does not exist: it is no LiteLLM proxy", "check CORRAL_ENDPOINT")
    if code in (httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND, httpx.codes.UNPROCESSABLE_ENTITY):
        return InputError(f"the gate refuses this: {message or f'status {code}'}", "change it and try again")
    return GateError(f"the gate at {base_url} answers {code} to {path}: {message or 'no message'}", LOGS)


def _database_is_away(code: int, message: str) -> bool:
    known = ("db not connected", "database not connected", "can't reach database server", "database unavailable")
    return code >= httpx.codes.INTERNAL_SERVER_ERROR and any(text in message.lower() for text in known)


def _message(response: httpx.Response) -> tuple[str, str | None]:
    """Return the message as one line without markup, and the parameter it is about."""
    try:
        body = response.json()
    except ValueError:
        return "", None
    if not isinstance(body, dict):
        return "", None
    error = body.get("error", body.get("detail"))
    param = error.get("param") if isinstance(error, dict) else None
    return _one_line(_text(error)), param if isinstance(param, str) else None


def _text(error: Any) -> str:
    match error:
        case str():
            return _unwrap(error)
        case {"message": inner} | {"error": inner} | {"msg": inner}:
            where = ".".join(str(part) for part in error.get("loc", ()) if part != "body")
            return f"{where}: {_text(inner)}" if where else _text(inner)
        case list():
            return ", ".join(_text(item) for item in error)
        case _:
            return ""


def _unwrap(text: str) -> str:
    """Return the message within `{'error': 'message'}`: LiteLLM puts the details of an exception through `str`."""
    if text.startswith("{"):
        try:
            literal = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
        if isinstance(literal, Mapping):
            return _text(literal) or text
    return text


def _one_line(text: str) -> str:
    line = " ".join(text.split()).removeprefix("Authentication Error, ").rstrip(".")
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"
