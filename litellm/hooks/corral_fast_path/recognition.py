"""Keys that LiteLLM has just let in, for requests that it would let in for the same reasons.

LiteLLM's authentication looks for users, teams, organisations, projects, agents, customers, tags and budgets of all of
them. A key that has none of these, which asks for the same model at the same route again, is let in again: for as long
as LiteLLM's cache holds the same entry for it. One that was blocked, deleted, changed or has run out is looked at by
LiteLLM, and so is every other key, and every request that says more than its model and what the model is to do.
"""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple

from litellm.proxy import proxy_server
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth, hash_token
from starlette.requests import Request

import litellm
from corral_fast_path.copies import changeable, copy_of
from corral_fast_path.kinds import Body, Kind

FRESH_S = 5.0
"""How long a key is known without another look: a change of the configuration counts from then on at the latest."""
MOST = 1000

_SAYS_NOTHING_NEW = frozenset(
    {
        "model", "messages", "prompt", "input", "stream", "stream_options", "max_tokens", "max_completion_tokens",
        "temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "frequency_penalty", "presence_penalty",
        "repeat_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "encoding_format", "dimensions",
        "query", "documents", "top_n", "grammar", "cache_prompt", "chat_template_kwargs",
    }
)  # fmt: skip
"""Keys of a body that authentication does not look at, the model aside."""
_USUAL_HEADERS = frozenset(
    {
        "host", "user-agent", "accept", "accept-encoding", "accept-language", "connection", "content-type",
        "content-length", "transfer-encoding", "authorization", "x-request-id", "x-forwarded-for", "x-forwarded-proto",
        "x-forwarded-host", "x-forwarded-port", "x-real-ip",
    }
)  # fmt: skip
_USUAL_SETTINGS = frozenset(
    {
        "master_key", "database_url", "database_connection_pool_limit", "background_health_checks",
        "proxy_batch_write_at", "global_max_parallel_requests", "store_model_in_db", "store_prompts_in_spend_logs",
    }
)  # fmt: skip
"""Settings of LiteLLM that ask nothing of authentication."""
_OF_NOBODY = (
    "user_id", "team_id", "org_id", "project_id", "agent_id", "end_user_id", "budget_id", "max_budget", "soft_budget",
    "model_max_budget", "user_model_max_budget", "end_user_model_max_budget", "budget_limits", "budget_reservation",
    "budget_throttle_pct", "object_permission", "object_permission_id", "access_group_ids",
    "matched_model_access_groups", "jwt_claims", "router_settings", "agent_caller", "is_session_token",
    "end_user_max_budget", "parent_otel_span", "managed_agent_policy", "billing_agent_policy", "invoked_agent_id",
)  # fmt: skip
_OUR_METADATA = frozenset({"corral_traces"})
_COUNTS = frozenset({"spend"})
"""What changes in a key's entry with each request, and decides nothing where there is no budget."""
_RECORD = "corral_fast_path.record"


class Name(NamedTuple):
    """What a key is let in for."""

    token: str
    route: str
    model: str


class Record(NamedTuple):
    """A key that LiteLLM has let in: the one that `record_of` gives is the one that let the request in.

    Attributes:
        name: what for.
        until: when LiteLLM is to look again, in s of the monotonic clock.
        expires: when the key does.
        entry: of LiteLLM's cache, which must be the same.
        user: whom LiteLLM has found it to be.
        fields: of `user`, which hold something that can be changed in place.
    """

    name: Name
    until: float
    expires: datetime | None
    entry: Mapping[str, Any]
    user: UserAPIKeyAuth
    fields: tuple[str, ...]


_known: OrderedDict[Name, Record] = OrderedDict()


def name_of(kind: Kind, request: Request, body: Body) -> Name | None:
    """Return what a request is let in for by its key; None if more than that may count."""
    headers = request.scope["headers"]
    plain = (
        kind.metadata == "metadata"
        and body.keys() <= _SAYS_NOTHING_NEW
        and not request.scope.get("query_string")
        and all(_is_usual(header.decode("latin-1")) for header, _ in headers)
    )
    secret = request.headers.get("authorization", "")
    if not plain or not secret.startswith("Bearer sk-") or not isinstance(body.get("model"), str):
        return None
    return Name(hash_token(secret.removeprefix("Bearer ")), request.scope["path"], body["model"])


def known(name: Name, request: Request) -> UserAPIKeyAuth | None:
    """Return whom LiteLLM has let in under this name, if it would do so again."""
    found = _known.get(name)
    if found is None:
        return None
    now = datetime.now(UTC)
    entry = _entry(name.token)
    if (
        entry is None
        or monotonic() >= found.until
        or not _is_same(entry, found.entry)
        or (found.expires is not None and found.expires <= now)
    ):
        del _known[name]
        return None
    user = copy_of(found.user, found.fields)
    user.spend = float(entry.get("spend") or 0.0)
    request.state.litellm_received_at = now
    request.state.parent_otel_span = request.state.budget_reservation = None
    request.scope[_RECORD] = found
    return user


def record_of(request: Request) -> Record | None:
    """Return by which record a request was let in, or could have been; None if its key must be looked at each time."""
    found: Record | None = request.scope.get(_RECORD)
    return found


def remember(name: Name, user: UserAPIKeyAuth, request: Request) -> None:
    """Keep whom LiteLLM has let in, if the key stands for itself alone."""
    entry = _entry(name.token)
    if (
        not _is_usual_here()
        or entry is None
        or user.user_role == LitellmUserRoles.PROXY_ADMIN
        or user.blocked
        or user.token != name.token
    ):
        return
    if any(getattr(user, owner) for owner in _OF_NOBODY) or not (user.metadata or {}).keys() <= _OUR_METADATA:
        return
    fields = changeable(user)
    record = Record(name, monotonic() + FRESH_S, _time(user.expires), {**entry}, copy_of(user, fields), fields)
    _known[name] = request.scope[_RECORD] = record
    if len(_known) > MOST:
        _known.popitem(last=False)


def _entry(token: str) -> dict[str, Any] | None:
    """What LiteLLM has of a key in this process."""
    found = proxy_server.user_api_key_cache.in_memory_cache_for(token).get_cache(token)
    return found if type(found) is dict else None


def _is_same(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if entry is other:
        return True
    return entry.keys() == other.keys() and all(
        value is other[name] or value == other[name] or name in _COUNTS for name, value in entry.items()
    )


def _is_usual_here() -> bool:
    if litellm.service_callback or proxy_server.open_telemetry_logger or proxy_server.user_custom_auth:
        return False
    return all(name in _USUAL_SETTINGS or not value for name, value in proxy_server.general_settings.items())


def _is_usual(header: str) -> bool:
    return header in _USUAL_HEADERS or header.startswith("x-stainless-")


def _time(moment: Any) -> datetime | None:
    if moment is None:
        return None
    found = moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
