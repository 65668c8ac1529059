"""The size of a row of spend, by which LiteLLM bounds its queue and its statements.

It makes JSON of each row for it: when the row is queued, when it is taken out and when it is written.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from litellm.proxy.db import spend_log_batching

_of_litellm = spend_log_batching._row_payload_bytes


def _bytes(row: Mapping[str, Any]) -> int:
    """LiteLLM's count has a blank after each comma and colon, and escapes what is not ASCII."""
    try:
        found = orjson.dumps(row, default=str)
    except TypeError:
        return int(_of_litellm(row))
    return len(found) + 2 * len(row) if found.isascii() else int(_of_litellm(row))


def install() -> None:
    """Put it in the place of LiteLLM's."""
    spend_log_batching._row_payload_bytes = _bytes
