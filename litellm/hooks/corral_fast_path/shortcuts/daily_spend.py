"""The sums of spend by day: LiteLLM prices one request again for its user, its team and its organisation.

What caching and routing have saved is worked out with the price of the deployment, for each of them, from the JSON of
the row. It is the same for all, and nothing where a prompt came from no cache. The row's JSON is read once more to see
whether the request failed, and slowly.
"""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import orjson
from litellm.proxy.db import db_spend_update_writer
from litellm.proxy.db.daily_spend_bulk_upsert import daily_spend_entity_ids
from litellm.proxy.db.db_spend_update_writer import DBSpendUpdateWriter
from litellm.proxy.spend_tracking.savings import (
    SavingsSpend,
    compute_savings_spend,
    extract_cache_creation_tokens,
    extract_cache_read_tokens,
)
from litellm.proxy.utils import PrismaClient

_NOTHING = SavingsSpend(compression=0.0, prompt_caching=0.0, autorouter=0.0, gateway_injected_caching=0.0)
_ALIKE = frozenset({"user", "team", "org"})
"""Owners for whom LiteLLM's sum of a request is the same."""
_FAILURE = '"failure"'

_status_of_litellm = PrismaClient.get_request_status
_of_litellm = DBSpendUpdateWriter._common_add_spend_log_transaction_to_daily_transaction


class _Latest:
    """The latest row that was summed up. Its owners follow one another; another row between costs a reckoning."""

    row: object = None
    sum: Any = None


async def _sum(self: Any, payload: Any, prisma_client: Any, type: str = "user") -> Any:  # noqa: A002  # LiteLLM's name
    if type not in _ALIKE:
        return await _of_litellm(self, payload, prisma_client, type)
    if payload is _Latest.row:
        return {**_Latest.sum} if daily_spend_entity_ids(payload, type) else None
    found = await _of_litellm(self, payload, prisma_client, type)
    if found is not None:
        _Latest.row, _Latest.sum = payload, {**found}
    return found


def _savings(**asked: Any) -> SavingsSpend:
    usage = asked.get("usage_object")
    saves = (
        asked["compression_saved_tokens"] > 0
        or asked.get("routing_decision")
        or asked.get("recorded_autorouter_savings") is not None
        or asked.get("recorded_autorouter_savings_estimate") is not None
        or not isinstance(usage, Mapping | None)
        or extract_cache_read_tokens(usage) > 0
        or extract_cache_creation_tokens(usage) > 0
    )
    found: SavingsSpend = compute_savings_spend(**asked) if saves else _NOTHING
    return found


def _status(self: Any, payload: Mapping[str, Any]) -> Any:
    metadata = payload.get("metadata")
    if isinstance(metadata, str) and _FAILURE not in metadata:
        return "success"
    return _status_of_litellm(self, payload)


def _loads(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # `NaN`, which is none for it; or it is none at all
        return json.loads(text)


def install() -> None:
    """Put them in the place of LiteLLM's."""
    db_spend_update_writer.json = SimpleNamespace(loads=_loads, dumps=json.dumps)  # all that it takes of the module
    PrismaClient.get_request_status = _status
    DBSpendUpdateWriter._common_add_spend_log_transaction_to_daily_transaction = _sum
    db_spend_update_writer.compute_savings_spend = _savings
