"""The rest of `shortcut_answers`: caches, the database's queries, rows' JSON, guardrails, messages, asked both ways."""

import asyncio
import contextlib
import contextvars
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from litellm._internal_context import current_service_target
from litellm.caching.dual_cache import DualCache
from litellm.caching.in_memory_cache import InMemoryCache
from litellm.integrations.shadow_eval_logger import ShadowEvalLogger
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.proxy import proxy_server
from litellm.proxy._lazy_features import LAZY_FEATURES
from litellm.proxy.utils import PrismaClient
from litellm.router import Router
from prisma import Json, builder
from prisma.builder import QueryBuilder
from prisma.models import LiteLLM_SpendLogs
from starlette.requests import Request

import litellm
from corral_fast_path.shortcuts import (
    audience,
    caches,
    costs,
    daily_spend,
    deployments,
    guardrails,
    queries,
    routes,
    rows,
    targets,
    unused,
)

Pairs = list[tuple[object, object]]


def cached_values() -> Pairs:
    values = {"json": '{"a": 1}', "text": "no JSON", "number": 5, "none": None, "key": {"spend": 1.0}, "bytes": b"[1]"}

    def filled() -> InMemoryCache:
        cache = InMemoryCache()
        for name, value in values.items():
            cache.set_cache(name, value)
        cache.set_cache("late", {"a": 1})
        cache.ttl_dict["late"] = 0.0  # long over
        return cache

    theirs, ours = filled(), filled()
    names = (*values, "late", "unknown")
    pairs: Pairs = [(caches._in_memory_of_litellm(theirs, one), caches._in_memory(ours, one)) for one in names]
    assert sorted(theirs.cache_dict) == sorted(ours.cache_dict)
    both, alone = DualCache(in_memory_cache=ours), DualCache(in_memory_cache=None)
    for cache in (both, alone):
        for name in names:
            asked = (cache, name, None, True)
            pairs.append((asyncio.run(caches._in_both_of_litellm(*asked)), asyncio.run(caches._in_both(*asked))))
    return pairs


def queries_of_rows() -> Pairs:
    """Prisma's text and ours differ in the blanks at which lines begin, and in nothing else.

    But Prisma takes U+2028 and its like in a text for line ends, and indents what comes after them.
    """
    row = {
        "request_id": "a", "spend": 1e-6, "prompt_tokens": 7, "large": 1 << 70, "yes": True, "no": False, "none": None,
        "messages": Json({"a": ["wörd\n  indented", {"b": 1}]}), "startTime": datetime(2026, 11, 21, 1, 2, tzinfo=UTC),
        "metadata": '{"said": "\\"two\\"\\n  lines\\x7f\x00"}', "cost": Decimal("0.1"), "tags": ["a", "b", "\t"],
        "nested": {"set": ["x"], "deeper": {"value": 0.5}}, "empty": "", "line ends": "a\r\nb",
    }  # fmt: skip
    arguments: tuple[dict[str, Any], ...] = (
        {"data": [row, row], "skipDuplicates": True},
        {"data": [], "skipDuplicates": False},
        {"where": {"request_id": {"in": ["a", "b"]}}, "take": 1, "order": [{"startTime": "desc"}]},
    )
    methods = ("create_many", "create_many", "find_many")

    def built() -> list[object]:
        texts = [
            QueryBuilder(method=method, model=LiteLLM_SpendLogs, arguments={**one}).build_query()
            for method, one in zip(methods, arguments, strict=True)
        ]
        raw = QueryBuilder(method="query_raw", arguments={"query": 'SELECT "a"\n', "parameters": ["x", 1]})
        whole = QueryBuilder(method="query_raw", arguments={"query": "SELECT 'wörd\\'"}).build()
        plain = [[line.lstrip(" ") for line in text.split("\n")] for text in (*texts, raw.build_query())]
        asked = json.loads(whole)
        return [*plain, {**asked, "query": asked["query"].split()}]

    theirs = built()
    indent = builder.indent
    queries.install()
    try:
        asked = QueryBuilder(method="create_many", model=LiteLLM_SpendLogs, arguments={"data": [{"id": "c\u2028d"}]})
        assert "c\u2028d" in asked.build_query()
        return list(zip(theirs, built(), strict=True))
    finally:
        builder.indent, builder.dumps = indent, queries._dumps_of_prisma


def copies_of_rows() -> Pairs:
    flat = {"id": "a", "spend": 0.5, "startTime": datetime(2026, 1, 1, tzinfo=UTC), "user": None, "tokens": 1}
    found: list[Any] = [flat, {**flat, "messages": {"a": [1]}}, {**flat, "tags": ["a"]}, {}, {"a": {"b": object}}]
    pairs: Pairs = [
        (rows._for_database_of_litellm(_nobody(), one), rows._for_database(_nobody(), one)) for one in found
    ]
    copied = [rows._deepcopy(one) for one in [*found, [flat]]]
    assert all(copy is not one for copy, one in zip(copied, [*found, [flat]], strict=True))
    assert copied[2]["tags"] is not found[2]["tags"]
    return [*pairs, *zip([*found, [flat]], copied, strict=True)]


def shadow_evaluations() -> Pairs:
    """What eight answers at once find, four times; the database is asked once by all that do at a time."""
    asked = 0

    class Jobs:
        async def find_many(self, **_where: Any) -> list[object]:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            if asked == 1:
                raise OSError("no database")
            return []

    prisma = SimpleNamespace(db=SimpleNamespace(litellm_shadowevaljob=Jobs()))

    def logger() -> ShadowEvalLogger:
        return ShadowEvalLogger(prisma_provider=lambda: prisma, jobs_cache=InMemoryCache())

    async def found(look: Callable[..., Any], logger: ShadowEvalLogger) -> list[object]:
        return [await asyncio.gather(*(look(logger) for _ in range(8))) for _ in range(4)]

    theirs = asyncio.run(found(unused._evaluations_of_litellm, logger()))
    asked = 0
    ours = asyncio.run(found(unused._evaluations, logger()))
    assert asked == 2, asked  # once in vain
    return list(zip(theirs, ours, strict=True))


def stored_prompts() -> Pairs:
    pairs: Pairs = []
    for setting in ({}, {"store_prompts_in_spend_logs": "True"}, {"store_prompts_in_spend_logs": False}, {}):
        with patch.object(proxy_server, "general_settings", setting):
            rows._Prompts.until = 0.0
            pairs += [(rows._stores_prompts_of_litellm(), rows._stores_prompts()) for _ in range(2)]
        pairs.append((pairs[-1][0], rows._stores_prompts()))  # a second long
    return pairs


def reasons_of_free_answers() -> Pairs:
    log = Logging(
        model="chat", messages=[], stream=False, call_type="acompletion", start_time=datetime.now(UTC),
        litellm_call_id="a", function_id="",
    )  # fmt: skip
    log.model_call_details["litellm_params"] = {"metadata": {"model_group": "chat"}}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "?"}}
    answer = litellm.ModelResponse(model="gpt-4o", usage={"prompt_tokens": 3, "total_tokens": 3}, choices=[choice])
    more = {"calculation_failed": False, "litellm_model_name": "gpt-4o", "router_model_id": None}
    return [
        (costs._why_free_of_litellm(log, answer, cost, **more), costs._why_free(log, answer, cost, **more))
        for cost in (0.5, 0.0, None, 1e-9)
    ]


def json_of_rows() -> Pairs:
    texts = ['{"a": [1, 2.5, null, true, "wörd"]}', '{"a": NaN}', "no JSON", "", '{"a": 1, "a": 2}', "[]"]
    return [(_read(json.loads, text), _read(daily_spend._loads, text)) for text in texts]


def _read(loads: Callable[[str], Any], text: str) -> object:
    try:
        return loads(text)
    except json.JSONDecodeError as error:
        return str(error)


def statuses_of_rows() -> Pairs:
    asked: list[Mapping[str, Any]] = [
        {"metadata": json.dumps({"status": status, "user": said})}
        for status in ("success", "failure", None)
        for said in ("", "failure")
    ]
    asked += [{}, {"metadata": "no JSON"}, {"metadata": '"failure"'}, {"metadata": {"status": "failure"}}]
    return [(daily_spend._status_of_litellm(_nobody(), row), daily_spend._status(_nobody(), row)) for row in asked]


def _nobody() -> PrismaClient:
    return PrismaClient.__new__(PrismaClient)


def guardrails_of_rows() -> Pairs:
    known = [{"guardrail_name": "a", "guardrail_status": "success"}]
    metadata: list[Any] = [
        None, "", "no JSON", "[]", {"guardrail_information": known}, json.dumps({"guardrail_information": None}),
        json.dumps({"guardrail_information": known}), json.dumps({"guardrail_information": []}),
        json.dumps({"standard_logging_guardrail_information": known}, separators=(",", ":")),
        json.dumps({"user": '"guardrail_information": ['}),
    ]  # fmt: skip
    return [
        (list(guardrails._recorded_of_litellm({"metadata": one})), list(guardrails._recorded({"metadata": one})))
        for one in metadata
    ]


def _router() -> Router:
    def server(name: str, **more: Any) -> dict[str, Any]:
        parameters = {"model": "hosted_vllm/chat", "api_base": "http://127.0.0.1:1/v1", "api_key": "key-of-a-server"}
        return {"model_name": "chat", "litellm_params": {**parameters, **more}, "model_info": {"id": name}}

    return Router(
        model_list=[
            server("plain"), server("guarded", guardrails=["a"]), server("none", guardrails=[]),
            *(server(limit, **{limit: 5}) for limit in ("rpm", "tpm")),
        ]
    )  # fmt: skip


def guardrails_of_deployments() -> Pairs:
    router = _router()
    asked: list[tuple[Any, ...]] = [
        ({"model": "chat", "metadata": {"guardrails": ["b"], "model_info": {"id": name}}}, router, trusted)
        for name in ("plain", "guarded", "none", "unknown", None)
        for trusted in (True, False)
    ]
    asked += [({"model": "chat"}, router), ({"model": "chat", "metadata": {"model_info": {"id": "guarded"}}}, None)]
    return [(_merged(guardrails._merge_of_litellm, *one), _merged(guardrails._merge, *one)) for one in asked]


def _merged(merge: Callable[..., Any], data: dict[str, Any], *more: Any) -> object:
    copy = json.loads(json.dumps(data))
    return merge(copy, *more), copy


def counted_uses() -> Pairs:
    """What is in a router's cache after a use of each deployment; nothing is of one without limits."""

    async def counted(increment: Callable[..., Any], name: str, router: Router) -> object:
        model = router.get_deployment(name)
        assert model is not None
        await increment(
            router, deployment_id=name, deployment_name="hosted_vllm/chat", model_group="chat", total_tokens=7,
            rpm_increment=1, parent_otel_span=None,
        )  # fmt: skip
        return sorted(router.cache.in_memory_cache.cache_dict.values(), key=str)

    pairs: Pairs = []
    for name in ("plain", "none", "rpm", "tpm", "plain"):
        theirs, ours = _router(), _router()
        pairs.append(
            (
                asyncio.run(counted(deployments._increment_of_litellm, name, theirs)),
                asyncio.run(counted(deployments._increment, name, ours)),
            )
        )
    assert pairs[0] != pairs[2]
    return pairs


def shown_deployments() -> Pairs:
    router = _router()
    shown: Pairs = [
        (str(deployments._shown_of_litellm(router, one)), str(deployments._Shown(router, one)))
        for one in router.model_list
    ]
    assert all("key-of-a-server" not in str(ours) for _, ours in shown)
    return [*shown, *((str(one), f"{one}") for one in (1,))]


def errors_of_answers() -> Pairs:
    said: list[tuple[Any, ...]] = [
        (None,), (None, ""), (None, "Traceback"), (litellm.RateLimitError("full", "hosted_vllm", "chat"),),
        (ValueError("a"), "Traceback"),
    ]  # fmt: skip
    return [(unused._error_of_litellm(*one), unused._error(*one)) for one in said]


def known_callbacks() -> Pairs:
    theirs = litellm._known_custom_logger_compatible_callbacks
    ours = audience.Names(theirs)
    looked_for: tuple[object, ...] = ("otel", "prometheus", "nobody", None, print, audience, ["otel"])
    return [(theirs, list(ours)), *(((one in theirs), (one in ours)) for one in looked_for)]


def routes_of_requests() -> Pairs:
    scopes: list[dict[str, Any]] = [
        {"path": path, **root}
        for path in ("/v1/chat/completions", "/api/v1/chat/completions", "/key/generate", "/")
        for root in ({}, {"root_path": "/api"}, {"app_root_path": "/api/"}, {"root_path": ""})
    ]
    whole = {"type": "http", "scheme": "http", "server": ("127.0.0.1", 1), "query_string": b"", "headers": []}
    requests = [Request({**whole, **one}) for one in scopes]
    return [(routes._route_of_litellm(one), routes._route(one)) for one in requests]


def targets_of_calls() -> Pairs:
    """What a call within a target, or two, is for; and that an error leaves none behind."""

    def seen(target: Any) -> list[object]:
        found: list[object] = []
        with contextlib.suppress(KeyError), target("a"):
            found.append(current_service_target())
            with target(None):
                found.append(current_service_target())
            found.append(current_service_target())
            raise KeyError
        return [*found, current_service_target()]

    theirs, ours = seen(targets._internal_context.service_target), seen(targets.Target)
    abandoned = targets.Target("a")
    contextvars.copy_context().run(abandoned.__enter__)
    abandoned.__exit__(None, None, None)  # of another context
    return list(zip(theirs, ours, strict=True))


def features_of_routes() -> Pairs:
    """No part of LiteLLM that is loaded when it is first asked for waits for a request of ours."""
    waiting = {path: any(one.matches(path) for one in LAZY_FEATURES) for path in routes._ROUTES}
    return [(path in routes._LOADED, not waits) for path, waits in waiting.items()]
