import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from support.hooks import load_hook

SECRET = "nobody-shall-read-this"
PAYLOAD: dict[str, Any] = {
    "litellm_call_id": "id-1", "model_group": "chat", "model_id": "chat-1", "stream": True, "prompt_tokens": 9,
    "completion_tokens": 4, "startTime": 10.0, "completionStartTime": 10.5, "endTime": 12.0,
    "metadata": {"user_api_key_hash": "ab" * 32, "user_api_key_alias": "wiki", "requester_metadata": SECRET},
    "messages": [SECRET], "response": SECRET, "error_str": SECRET,
    "error_information": {"error_class": "Timeout", "error_code": "408", "error_message": SECRET},
}  # fmt: skip


@pytest.fixture(scope="module")
def hook() -> Any:
    return load_hook("corral_request_log")


def written(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (record,) = caplog.records
    assert SECRET not in record.message
    return {name: value for name, value in json.loads(record.message).items() if name != "time"}


@pytest.fixture(autouse=True)
def _listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="corral.requests")


async def test_an_answer_is_a_line_without_a_word_of_the_users(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    await hook.requests.async_log_success_event({"standard_logging_object": PAYLOAD}, None, None, None)
    assert written(caplog) == {
        "server": "gate", "event": "request", "id": "id-1", "key": "ab" * 8, "alias": "wiki", "model": "chat",
        "to": "chat-1", "stream": True, "tokens_in": 9, "tokens_out": 4, "ttft_ms": 500.0, "duration_ms": 2000.0,
        "outcome": "ok",
    }  # fmt: skip


async def test_a_failed_try_names_its_error(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    await hook.requests.async_log_failure_event({"standard_logging_object": PAYLOAD}, None, None, None)
    assert written(caplog).items() >= {"event": "try", "outcome": "Timeout", "status": 408, "to": "chat-1"}.items()


async def test_a_refusal_is_a_request_that_went_nowhere(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    user = SimpleNamespace(token="cd" * 32, key_alias="wiki")
    error = type("TooMany", (Exception,), {"code": "429"})(SECRET)
    await hook.requests.async_post_call_failure_hook({"litellm_call_id": "id-2", "model": "chat"}, error, user)
    assert written(caplog) == {
        "server": "gate", "event": "request", "id": "id-2", "key": "cd" * 8, "alias": "wiki", "model": "chat",
        "outcome": "TooMany", "status": 429,
    }  # fmt: skip


async def test_a_request_takes_its_id_and_its_key_along_to_servers_of_the_farm_only() -> None:
    headers = load_hook("corral_headers")
    kwargs = {"litellm_call_id": "id-3", "metadata": {"user_api_key_hash": "ab" * 32}, "extra_headers": {"x-own": "1"}}
    sent = await headers.headers.async_pre_call_deployment_hook({**kwargs, "model_info": {"id": "chat-1"}}, None)
    assert sent["extra_headers"] == {"x-own": "1", "x-request-id": "id-3", "x-corral-key-hash": "ab" * 8}
    provider = {**kwargs, "model_info": {"id": "provider.elsewhere"}}
    assert await headers.headers.async_pre_call_deployment_hook(provider, None) is None
    assert headers.for_server("id-4", {"user_api_key_hash": "sk-a-raw-key-that-must-stay"}) == {"x-request-id": "id-4"}
