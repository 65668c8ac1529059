"""What LiteLLM's events tell of an answer: its cost, its headers, and whose fault it was where there is none."""

import math
from collections.abc import Mapping
from datetime import datetime
from time import monotonic
from typing import Any

from corral_routing.router import Pick, Usage

MOST_TOKENS = 2**31


def usage_of(kwargs: Mapping[str, Any], response: Any, end_time: Any) -> Usage:
    """Return what LiteLLM's success event tells of an answer's cost."""
    usage = getattr(response, "usage", None)
    details = getattr(usage, "prompt_tokens_details", None)
    began, first = kwargs.get("api_call_start_time"), kwargs.get("completion_start_time")
    return Usage(
        prompt_tokens=_tokens(getattr(usage, "prompt_tokens", None)) or None,
        cached_tokens=_tokens(getattr(details, "cached_tokens", None)),
        answer_tokens=_tokens(getattr(usage, "completion_tokens", None)),
        first_token_s=_seconds(began, first) if kwargs.get("stream") else None,
        took_s=_seconds(began, end_time),
    )


def is_of(kwargs: Mapping[str, Any], pick: Pick, end_time: Any) -> bool:
    """Say whether an event is of this pick, and not of an earlier try of the same request."""
    server = ((kwargs.get("litellm_params") or {}).get("model_info") or {}).get("id")
    if not isinstance(server, str) or not pick.server.startswith(server):
        return False
    ago_s = _seconds(end_time, datetime.now())  # noqa: DTZ005  # as LiteLLM's
    return ago_s is None or pick.at <= monotonic() - ago_s


def blames_server(status: object) -> bool:
    """Say whether an error's status tells of its server: 5xx, 408, and none at all (no connection)."""
    return not isinstance(status, int) or status >= 500 or status == 408


def headers_of(response: object) -> Mapping[str, object]:
    """Return upstream's headers, as LiteLLM names them; none where it kept none."""
    hidden = getattr(response, "_hidden_params", None)
    headers = hidden.get("additional_headers") if isinstance(hidden, Mapping) else None
    return headers if isinstance(headers, Mapping) else {}


def _tokens(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < MOST_TOKENS else None


def _seconds(start: object, end: object) -> float | None:
    """Return the time between two datetimes; None where the wall clock was put back in between."""
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        return None
    try:
        seconds = (end - start).total_seconds()
    except TypeError:  # one has a time zone, the other none
        return None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None
