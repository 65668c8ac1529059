"""Rows of spend: their JSON, copies of them, and whether prompts are to be in them.

LiteLLM goes through all that a row says, piece by piece, before it makes JSON of it; and makes JSON of the whole row
when it is queued, when it is taken out and when it is written, to know how large it is. It copies a row twice, as deep
as it goes; nothing in it can be changed. For each row it asks four times whether prompts are to be stored.
"""

import copy
from collections.abc import Mapping
from datetime import datetime
from time import monotonic
from types import SimpleNamespace
from typing import Any

import orjson
from litellm.proxy.db import db_spend_update_writer, spend_log_batching
from litellm.proxy.hooks import proxy_track_cost_callback
from litellm.proxy.spend_tracking import spend_tracking_utils
from litellm.proxy.utils import PrismaClient

_AS_JSON_ONLY = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
"""What JSON has no word for is for LiteLLM to translate."""
_OF_CLIENTS = ("requester_metadata", "spend_logs_metadata", "proxy_server_request", "error_information")
"""What others write into a row may be nested as deep as they like; LiteLLM cuts it off."""
FRESH_S = 1.0
"""How late it may be heard that prompts are to be stored, or no more."""
_UNCHANGEABLE = frozenset({str, int, float, bool, type(None), datetime})
_NUL = b"\\u0000"

_bytes_of_litellm = spend_log_batching._row_payload_bytes
_dumps_of_litellm = spend_tracking_utils.safe_dumps
_stores_prompts_of_litellm = spend_tracking_utils.should_store_prompts_and_responses_in_spend_logs
_for_database_of_litellm = PrismaClient.jsonify_object


def _bytes(row: Mapping[str, Any]) -> int:
    """LiteLLM's count has a blank after each comma and colon, and escapes what is not ASCII."""
    try:
        found = orjson.dumps(row, default=str)
    except TypeError:
        return int(_bytes_of_litellm(row))
    return len(found) + max(0, 2 * len(row) - 1) if found.isascii() else int(_bytes_of_litellm(row))


def _dumps(data: Any, *limits: Any, **more: Any) -> str:
    if limits or more or not isinstance(data, dict) or any(data.get(name) for name in _OF_CLIENTS):
        return str(_dumps_of_litellm(data, *limits, **more))
    try:
        found = orjson.dumps(data, option=_AS_JSON_ONLY)
    except TypeError:
        return str(_dumps_of_litellm(data))
    return str(_dumps_of_litellm(data)) if _NUL in found else found.decode()


def _for_database(self: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data} if _is_flat(data) else dict(_for_database_of_litellm(self, data))


def _deepcopy(found: Any) -> Any:
    return {**found} if _is_flat(found) else copy.deepcopy(found)


class _Prompts:
    """Whether they are stored, and until when that holds, in s of the monotonic clock."""

    stored = False
    until = 0.0


def _stores_prompts() -> bool:
    now = monotonic()
    if now >= _Prompts.until:
        _Prompts.stored, _Prompts.until = bool(_stores_prompts_of_litellm()), now + FRESH_S
    return _Prompts.stored


def _is_flat(found: Any) -> bool:
    return type(found) is dict and all(type(value) in _UNCHANGEABLE for value in found.values())


def install() -> None:
    """Put them in the place of LiteLLM's."""
    PrismaClient.jsonify_object = _for_database
    for module in (spend_tracking_utils, proxy_track_cost_callback):
        module.should_store_prompts_and_responses_in_spend_logs = _stores_prompts
    db_spend_update_writer.copy = SimpleNamespace(deepcopy=_deepcopy)  # all that it takes of the module
    spend_log_batching._row_payload_bytes = _bytes
    spend_tracking_utils.safe_dumps = _dumps
