"""What the fast path takes on, and what it leaves to LiteLLM."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger

import litellm
from corral.render.litellm import HOOKS, ROUTING_HOOK
from corral_fast_path import coverage
from corral_fast_path.kinds import KINDS

KIND = {kind.path: kind for kind in KINDS}
CHAT = KIND["/chat/completions"]
BODY = {"model": "chat", "messages": [{"role": "user", "content": "?"}]}


def deployment(model: str = "hosted_vllm/chat", **more: Any) -> dict[str, Any]:
    return {
        "litellm_params": {"model": model, "api_base": "http://127.0.0.1:1/v1", "use_in_pass_through": False, **more}
    }


class Router:
    """As much of LiteLLM's router as is asked."""

    def __init__(self, fallbacks: list[dict[str, Any]] | None = None, **models: list[dict[str, Any]]) -> None:
        self.models = {"chat": [deployment(), deployment(api_key="k", rpm=3)], "other": [deployment()], **models}
        self.model_names = set(self.models)
        self.fallbacks = fallbacks or []
        self.context_window_fallbacks: list[dict[str, Any]] = []
        self.content_policy_fallbacks = None

    def get_model_from_alias(self, model: str) -> str | None:
        return {"assistant": "chat"}.get(model)

    def get_model_list(self, model_name: str) -> list[dict[str, Any]]:
        return self.models[model_name]


@pytest.fixture(autouse=True)
def _no_callbacks_left() -> Iterator[None]:
    before = list(litellm.callbacks)
    litellm.callbacks[:] = []
    yield
    litellm.callbacks[:] = before


@pytest.mark.parametrize("model", ["chat", "assistant", "other"])
@pytest.mark.parametrize("more", [{}, {"stream": True}, {"stream": False, "min_p": 0.1, "metadata": {}, "user": "a"}])
def test_a_plain_chat_with_a_model_of_the_farm(model: str, more: dict[str, Any]) -> None:
    assert coverage.why_not(CHAT, {**BODY, "model": model, **more}, Router()) is None


@pytest.mark.parametrize(
    "more",
    [{"fallbacks": ["x"]}, {"num_retries": 9}, {"mock_response": "hi"}, {"mock_testing_fallbacks": True}, {"cache": {}},
     {"api_base": "http://x"}, {"api_key": "k"}, {"guardrails": ["g"]}, {"timeout": 1}, {"priority": 1}, {"_x": 1},
     {"litellm_session_id": "s"}, {"user_config": {}}, {"disable_fallbacks": True}],
)  # fmt: skip
def test_what_steers_litellm_is_litellms(more: dict[str, Any]) -> None:
    assert coverage.why_not(CHAT, {**BODY, **more}, Router()) == "parameter of LiteLLM"


@pytest.mark.parametrize(
    "more",
    [
        {"messages": "hi"},
        {"messages": []},
        {"messages": ["hi"]},
        {"messages": None},
        {"stream": "yes"},
        {"stream": 1.5},
    ],
)
def test_what_is_malformed_is_litellms_to_refuse(more: dict[str, Any]) -> None:
    assert coverage.why_not(CHAT, {**BODY, **more}, Router()) == "body"


@pytest.mark.parametrize(
    ("path", "body", "plain"),
    [
        ("/completions", {"prompt": "a"}, True),
        ("/completions", {"prompt": [1, 2]}, True),
        ("/completions", {}, False),
        ("/embeddings", {"input": ["a"]}, True),
        ("/embeddings", {"input": [[1, 2]]}, False),  # LiteLLM turns tokens into text
        ("/embeddings", {"input": "a", "stream": True}, False),
        ("/responses", {"input": "a"}, True),
        ("/responses", {"input": "a", "background": True}, False),
        ("/messages", {"messages": BODY["messages"], "max_tokens": 1}, True),
        ("/messages", {"messages": BODY["messages"]}, False),
        ("/rerank", {"query": "a", "documents": ["b"]}, True),
        ("/rerank", {"query": "a"}, False),
    ],
)
def test_prompts_of_each_kind(path: str, body: dict[str, Any], plain: bool) -> None:
    assert (coverage.why_not(KIND[path], {"model": "chat", **body}, Router()) is None) == plain


@pytest.mark.parametrize("model", [None, 7, ["chat"], "gpt-99", ""])
def test_models_that_are_not_of_the_farm(model: Any) -> None:
    assert coverage.why_not(CHAT, {**BODY, "model": model}, Router()) == "model"


@pytest.mark.parametrize(
    "stranger",
    [deployment("openai/gpt"), deployment(api_base=None), deployment(extra_headers={"a": "b"}), deployment(tags=["t"])],
)
def test_one_deployment_that_is_not_plain_is_enough(stranger: dict[str, Any]) -> None:
    assert coverage.why_not(CHAT, BODY, Router(chat=[deployment(), stranger])) == "model"


@pytest.mark.parametrize(
    ("fallbacks", "reason"),
    [
        ([{"chat": ["other"]}], None),
        ([{"other": ["cloud"]}], None),
        ([{"chat": ["cloud"]}], "fallback"),
        ([{"chat": ["other"]}, {"other": ["cloud"]}], "fallback"),
        ([{"chat": ["other"]}, {"other": ["chat"]}], None),
        ([{"assistant": ["cloud"]}], None),
        ([{"*": ["cloud"]}], "fallback"),
        ([{"chat": [{"model": "x"}]}], "fallback"),
    ],
)
def test_fallbacks(fallbacks: list[dict[str, Any]], reason: str | None) -> None:
    assert coverage.why_not(CHAT, BODY, Router(fallbacks, cloud=[deployment("openai/gpt")])) == reason


def test_before_there_is_a_configuration() -> None:
    assert coverage.why_not(CHAT, BODY, None) == "no models"


class Guardrail(CustomGuardrail):
    pass


class Rewriter(CustomLogger):
    async def async_post_call_success_hook(self, data: Any, user_api_key_dict: Any, response: Any) -> Any:
        return response


class StreamReader(CustomLogger):
    async def async_post_call_streaming_hook(self, user_api_key_dict: Any, response: str) -> Any:
        return response


class Observer(CustomLogger):
    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        return


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (Guardrail(guardrail_name="g"), "guardrail"),
        (Rewriter(), "hook after the call"),
        (StreamReader(), "hook after the call"),
        (Observer(), None),
    ],
)
def test_hooks(hook: CustomLogger, reason: str | None) -> None:
    litellm.callbacks.append(hook)
    assert coverage.why_not(CHAT, BODY, Router()) == reason


def test_the_hooks_of_the_rendered_configuration_leave_requests_to_it() -> None:
    names = [tuple(hook.rsplit(".", 1)) for hook in (*HOOKS, ROUTING_HOOK)]
    litellm.callbacks[:] = [getattr(importlib.import_module(module), name) for module, name in names]
    assert coverage.why_not(CHAT, BODY, Router()) is None


def test_a_response_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "cache", object())
    assert coverage.why_not(CHAT, BODY, Router()) == "response cache"


class Elsewhere(CustomLogger):
    """Sends answers somewhere."""


class AlwaysThere(CustomLogger):
    """As LiteLLM's ShadowEvalLogger, whose import is slow and warns."""

    __module__ = "litellm.integrations.shadow_eval_logger"


@pytest.mark.parametrize(
    ("listeners", "traced"),
    [
        (["corral_headers.headers", "corral_fast_path.fast_path", "prometheus", AlwaysThere()], False),
        (["corral_headers.headers", "langfuse_otel"], True),
        ([Elsewhere()], True),
    ],
)
def test_the_text_of_answers_is_kept_only_for_those_who_send_it_on(
    monkeypatch: pytest.MonkeyPatch, listeners: list[Any], traced: bool
) -> None:
    monkeypatch.setattr(litellm, "callbacks", listeners)
    assert coverage.is_traced({}, {}) is traced
    assert coverage.is_traced({"store_prompts_in_spend_logs": True}, {})


def test_long_keys_of_a_body_are_looked_at_and_not_kept() -> None:
    before = coverage._known_to_steer.cache_info().currsize
    assert not coverage.steering({"k" * 100_000: 1})
    assert coverage.steering({"mock_" + "k" * 100_000: 1})
    assert coverage._known_to_steer.cache_info().currsize == before
