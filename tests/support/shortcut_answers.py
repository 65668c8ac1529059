"""Run in a process of its own: asks LiteLLM's functions and the fast path's shortcuts the same, prints both answers.

LiteLLM's proxy, once imported, changes what other hooks do. The output is JSON: `same` has pairs of answers by subject,
`known` says which keys are let in without another look, `taken_over` what is no longer asked of LiteLLM once it has
shown it, `differences` what the guard finds, `put` what became of LiteLLM's functions once the shortcuts are in place.
"""

import asyncio
import importlib
import json
import pkgutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth, hash_token
from litellm.proxy.auth.route_checks import RouteChecks
from litellm.proxy.common_utils.cache_pydantic_utils import CacheCodec
from litellm.proxy.spend_tracking.savings import compute_savings_spend
from starlette.requests import Request

import litellm
from corral_fast_path import guard, recognition, shortcuts
from corral_fast_path.internals_of_shortcuts import OF_SHORTCUTS
from corral_fast_path.kinds import KINDS
from corral_fast_path.shortcuts import costs, daily_spend, keys, providers, request_data, routes, rows
from support.shortcut_answers_after import (
    costs_of_answers,
    internal_calls,
    limits_of_a_model,
    payloads_of_listeners,
    tool_names,
    who_is_told_of_answers,
)
from support.shortcut_answers_of_stores import (
    cached_values,
    copies_of_rows,
    counted_uses,
    errors_of_answers,
    features_of_routes,
    guardrails_of_deployments,
    guardrails_of_rows,
    json_of_rows,
    known_callbacks,
    queries_of_rows,
    reasons_of_free_answers,
    routes_of_requests,
    shadow_evaluations,
    shown_deployments,
    statuses_of_rows,
    stored_prompts,
    targets_of_calls,
)

SECRET = "sk-a-key"
TOKEN = hash_token(SECRET)
CHAT = KINDS[0]
BODY = {"model": "chat", "messages": [{"role": "user", "content": "?"}]}


def savings() -> list[tuple[object, object]]:
    usages: tuple[Mapping[str, Any] | None, ...] = (
        None,
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cache_creation_input_tokens": 3},
    )
    asked = [
        {
            "model": model, "custom_llm_provider": provider, "compression_saved_tokens": saved, "usage_object": usage,
            "gateway_injected_cache": False, "recorded_autorouter_savings": recorded,
        }
        for model, provider in (("chat", "hosted_vllm"), ("claude-sonnet-4-5", "anthropic"))
        for usage in usages
        for saved in (0, 7)
        for recorded in (None, 0.5)
    ]  # fmt: skip
    return [(compute_savings_spend(**one), daily_spend._savings(**one)) for one in asked]


def row_sizes() -> list[tuple[object, object]]:
    plain = {"request_id": "a", "spend": 0.25, "startTime": "2026-11-21T00:00:00+00:00", "metadata": '{"a": "b"}'}
    asked: list[Mapping[str, Any]] = [plain, {**plain, "user": "wörd"}, {}, {"a": datetime(2026, 11, 21, tzinfo=UTC)}]
    return [(rows._bytes_of_litellm(row), rows._bytes(row)) for row in asked]


def row_json() -> list[tuple[object, object]]:
    cyclic: dict[str, Any] = {"a": 1}
    cyclic["itself"] = cyclic
    asked: list[Any] = [
        {"a": 1e-6, "b": [1, None, True], "c": {"d": "wörd"}}, {"nul": "a\x00b"},
        {"when": datetime(2026, 1, 1, tzinfo=UTC)},
        {"kind": litellm.LlmProviders.OPENAI}, {"usage": litellm.Usage(prompt_tokens=1)}, {"some": {3, 1}}, {1: "one"},
        ["a", "b"], [], cyclic, {"requester_metadata": {"deep": {"deeper": "x"}}}, {"large": 1 << 70},
    ]  # fmt: skip
    return [(json.loads(rows._dumps_of_litellm(one)), json.loads(rows._dumps(one))) for one in asked]


def provider_names() -> list[tuple[object, object]]:
    def answer(ask: Any, *names: str) -> object:
        try:
            return ask(*names)
        except Exception as error:  # errors are answers too
            return repr(error)

    asked = [("hosted_vllm/chat",), ("chat",), ("chat", "hosted_vllm"), ("gpt-4o",), ("azure/x",)]
    return [
        (answer(providers._of_litellm, *names), answer(providers._provider, *names)) for names in asked for _ in (1, 2)
    ]


def key_objects() -> list[tuple[object, object]]:
    pairs: list[tuple[object, object]] = []
    for changed in ({}, {"spend": 2.5}, {"blocked": True}, {"metadata": {"tags": ["a"]}}, {"rpm_limit": 7}):
        entry = {**CacheCodec.serialize(key(), model_type=UserAPIKeyAuth), **changed}
        for _ in range(3):
            ours = keys._deserialize(entry, model_type=UserAPIKeyAuth)
            theirs = keys._of_litellm(entry, model_type=UserAPIKeyAuth)
            pairs.append((str(theirs.__dict__), str(ours.__dict__)))
            ours.metadata["left by a request"] = True  # which the next must not see
    return pairs


def management_routes() -> list[tuple[object, object]]:
    paths = [f"/v1{kind.path}" for kind in KINDS] + ["/key/generate", "/team/new", "/nowhere", "/user/info"]
    return [(routes._is_management_of_litellm(path), routes._is_management(path)) for path in paths]


def entries_of_requests() -> list[tuple[object, object]]:
    return asyncio.run(_entries_of_requests())


async def _entries_of_requests() -> list[tuple[object, object]]:
    """Requests of one client: the first two show what LiteLLM writes, the others are written without it."""
    pairs: list[tuple[object, object]] = []
    recognition._known.clear()
    request_data._known.clear()
    user = key(spend=1.0, metadata={"corral_traces": "full"})
    proxy_server.user_api_key_cache.set_cache(TOKEN, user, model_type=UserAPIKeyAuth)
    for number in range(5):
        body = {**BODY, "temperature": number / 10, "stream": number % 2 == 0}
        request = _request({"user-agent": "test/1", "content-length": str(100 + number)}, received=datetime.now(UTC))
        name = recognition.name_of(CHAT, request, body)
        assert name is not None
        found = recognition.known(name, request)
        if found is None:
            recognition.remember(name, user, request)
            found = user
        request.state.litellm_received_at = datetime.now(UTC)
        found.spend = float(number)
        theirs = await _written(request_data._of_litellm, body, request, found)
        ours = await _written(request_data._add, body, request, found)
        pairs.append((_said(theirs), _said(ours)))
        for part in (ours["metadata"], ours["metadata"]["headers"], ours["metadata"]["user_api_key_metadata"]):
            part["left by a request"] = True  # which the next must not see
    return pairs


def _said(written: Mapping[str, Any]) -> str:
    return f"{written} {dict(written['secret_fields']['raw_headers'])}"


def key(**settings: Any) -> UserAPIKeyAuth:
    return UserAPIKeyAuth(token=TOKEN, **{"models": ["chat"], "rpm_limit": 5, **settings})


def _request(headers: Mapping[str, str], received: datetime | None = None) -> Request:
    sent = {"host": "gate", "authorization": f"Bearer {SECRET}", **headers}
    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "state": {},
        "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 4000),
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
    }  # fmt: skip
    request = Request(scope)
    request.state.litellm_received_at = received
    return request


async def _written(add: Any, body: Mapping[str, Any], request: Request, user: UserAPIKeyAuth) -> dict[str, Any]:
    return dict(
        await add(
            data={**body, "metadata": {}}, request=request, user_api_key_dict=user,
            proxy_config=proxy_server.proxy_config, general_settings={"master_key": "sk-m"}, version="1",
        )
    )  # fmt: skip


def is_known(
    then: Mapping[str, Any] | None = None, now: Mapping[str, Any] | None = None, *, deleted: bool = False,
    **said: Any,
) -> bool:  # fmt: skip
    """Say whether a key that LiteLLM has let in with the settings `then` is let in with those of `now`."""
    cache = proxy_server.user_api_key_cache
    recognition._known.clear()
    user = key(**(then or {}))
    cache.set_cache(TOKEN, user, model_type=UserAPIKeyAuth)
    headers = said.pop("headers", {})
    request = _request(headers)
    name = recognition.name_of(CHAT, request, {**BODY, **said})
    if name is None:
        return False
    recognition.remember(name, user, request)
    if now is not None:
        cache.set_cache(TOKEN, key(**now), model_type=UserAPIKeyAuth)
    if deleted:
        cache.delete_cache(TOKEN)
    found = recognition.known(name, request)
    return found is not None and found.token == TOKEN and found is not user


def put_in_place() -> dict[str, list[str]]:
    """Put the shortcuts in place, and tell whose place they took; nothing can be compared after that.

    `left` has what a shortcut keeps of LiteLLM's own, to hand over to, and which still stands in its place.
    """
    before = _functions()
    shortcuts.install()
    after = _functions()
    taken = [name for name, one in before.items() if not (after[name] == one and type(after[name]) is type(one))]
    kept = {
        f"{module.name}.{name}": one
        for module in pkgutil.iter_modules(shortcuts.__path__)
        for name, one in vars(importlib.import_module(f"{shortcuts.__name__}.{module.name}")).items()
        if name.endswith(("_of_litellm", "_of_prisma"))
    }
    return {"taken": taken, "left": [name for name, one in kept.items() if not any(one is before[n] for n in taken)]}


def _functions() -> dict[str, Any]:
    return {
        f"{one.module}:{one.name}": reduce(getattr, one.name.split("."), importlib.import_module(one.module))
        for one in OF_SHORTCUTS
        if not one.needs or guard.is_installed(one.needs)
    }


def main() -> None:
    """Print all answers."""
    soon, past = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(seconds=1)
    subjects = (
        savings, row_sizes, row_json, provider_names, key_objects, management_routes, costs_of_answers,
        entries_of_requests, tool_names, limits_of_a_model, internal_calls,
        payloads_of_listeners, cached_values, queries_of_rows, statuses_of_rows, guardrails_of_rows,
        guardrails_of_deployments, shown_deployments, errors_of_answers, known_callbacks, features_of_routes,
        routes_of_requests, targets_of_calls, counted_uses, copies_of_rows, json_of_rows,
        shadow_evaluations, stored_prompts, reasons_of_free_answers,
    )  # fmt: skip
    known = {
        "plain": is_known(),
        "spent more": is_known(now={"spend": 3.0}),
        "expires later": is_known({"expires": soon}),
        "other parameters": is_known(temperature=0.5, stream=True),
        "blocked since": is_known(now={"blocked": True}),
        "deleted since": is_known(deleted=True),
        "other models since": is_known(now={"models": ["embed"]}),
        "has run out": is_known({"expires": past}),
        "with a budget": is_known({"max_budget": 1.0}),
        "of a team": is_known({"team_id": "a"}),
        "of a user": is_known({"user_id": "a"}),
        "with tags": is_known({"metadata": {"tags": ["a"]}}),
        "for a customer": is_known(user="a"),
        "with metadata": is_known(metadata={"tags": ["a"]}),
        "with tools": is_known(tools=[{"type": "file_search"}]),
        "with a header of LiteLLM": is_known(headers={"x-litellm-tags": "a"}),
        "with another key's header": is_known(headers={"x-api-key": "sk-b"}),
    }
    same = {subject.__name__: [(repr(theirs), repr(ours)) for theirs, ours in subject()] for subject in subjects}
    assert RouteChecks.is_management_route is routes._is_management_of_litellm, "run it with CORRAL_FAST_PATH=off"
    taken_over = {
        "costs": sorted(name.deployment for name in costs._known),
        "entries": [one.shown for one in request_data._known.values()],
    }
    print(
        json.dumps(
            {
                "same": same,
                "known": known,
                "told": who_is_told_of_answers(),
                "taken_over": taken_over,
                "differences": list(guard.differences()),
                "put": put_in_place(),
            }
        )
    )


if __name__ == "__main__":
    main()
