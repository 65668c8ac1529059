import asyncio
from typing import Any

import pytest

from support.hooks import load_hook

hook = load_hook("corral_retries")
SERVERS = [{"model_info": {"id": name}} for name in ("chat-1", "chat-2", "chat-3")]


def left(request: dict[str, Any] | None) -> list[str]:
    chosen = asyncio.run(hook.retries.async_filter_deployments("chat", SERVERS, [], request))
    return [one["model_info"]["id"] for one in chosen]


def after(*failed: object, under: str = "metadata") -> dict[str, Any]:
    return {under: {"previous_models": tuple({"deployment_id": one} for one in failed)}}


@pytest.mark.parametrize("under", ["metadata", "litellm_metadata"])
def test_a_server_that_failed_a_request_is_not_asked_again(under: str) -> None:
    assert left(after("chat-1", under=under)) == ["chat-2", "chat-3"]
    assert left(after("chat-1", "chat-3", under=under)) == ["chat-2"]


def test_when_all_have_failed_any_may_be_asked() -> None:
    assert left(after("chat-1", "chat-2", "chat-3")) == ["chat-1", "chat-2", "chat-3"]


@pytest.mark.parametrize(
    "request_", [None, {}, {"metadata": None}, {"metadata": {"previous_models": None}}, after(None)]
)
def test_a_first_try_may_go_anywhere(request_: dict[str, Any] | None) -> None:
    assert len(left(request_)) == 3
