"""Writes a line for each request into the gate's log, with the id that its gpu-server logs it under.

The lines are JSON, with the names that the gpu-server's request log has. A `try` is a call of a server that failed; the
request may have gone on to another. LiteLLM loads this as a callback (`corral_request_log.requests`).
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from corral_headers import KEY_DIGITS

_log = logging.getLogger("corral.requests")
_encoded = json.JSONEncoder(ensure_ascii=False).encode


class RequestLog(CustomLogger):
    """Never anything that a user wrote is in a line."""

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """See LiteLLM's `CustomLogger`."""
        _write("request", {**_of_call(kwargs), "outcome": "ok"})

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """See LiteLLM's `CustomLogger`."""
        payload = kwargs.get("standard_logging_object") or {}
        error = payload.get("error_information") or {}
        said = {"outcome": error.get("error_class") or "error", "status": _status(error.get("error_code"))}
        _write("try", {**_of_call(kwargs), **said})

    async def async_post_call_failure_hook(
        self, request_data: dict[str, Any], original_exception: Exception, user_api_key_dict: Any, *_: Any, **__: Any
    ) -> None:
        """See LiteLLM's `CustomLogger`; called when a request gets an error for its answer."""
        token = getattr(user_api_key_dict, "token", None)
        fields = {
            "id": request_data.get("litellm_call_id"),
            "key": str(token)[:KEY_DIGITS] if token else None,
            "alias": getattr(user_api_key_dict, "key_alias", None),
            "model": request_data.get("model"),
            "outcome": type(original_exception).__name__,
            "status": _status(
                getattr(original_exception, "status_code", None) or getattr(original_exception, "code", None)
            ),
        }
        if fields["id"]:
            _write("request", fields)


def _of_call(call: Mapping[str, Any]) -> dict[str, Any]:
    payload = call.get("standard_logging_object") or {}
    metadata = payload.get("metadata") or {}
    start, first, end = (payload.get(name) for name in ("startTime", "completionStartTime", "endTime"))
    streamed = bool(payload.get("stream"))
    return {
        "id": payload.get("litellm_call_id"),
        "key": str(metadata.get("user_api_key_hash") or "")[:KEY_DIGITS] or None,
        "alias": metadata.get("user_api_key_alias"),
        "model": payload.get("model_group"),
        "to": payload.get("model_id") or None,
        "stream": streamed,
        "tokens_in": payload.get("prompt_tokens") or None,
        "tokens_out": payload.get("completion_tokens") or None,
        "ttft_ms": _ms(start, first) if streamed else None,
        "duration_ms": _ms(start, end),
    }


def _status(code: object) -> int | None:
    return int(str(code)) if str(code).isdecimal() else None


def _ms(start: float | None, end: float | None) -> float | None:
    return round((end - start) * 1000, 1) if start and end and end >= start else None


def _write(event: str, fields: Mapping[str, Any]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    kept = {name: value for name, value in fields.items() if value is not None}
    _log.info(_encoded({"time": now, "server": "gate", "event": event, **kept}))


def _to_stdout() -> None:
    if _log.handlers:
        return
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False


if "litellm.proxy.proxy_server" in sys.modules:  # not in a test, nor where LiteLLM is used as a library
    _to_stdout()

requests = RequestLog()
