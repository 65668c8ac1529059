from types import SimpleNamespace

import pytest

from support.hooks import load_hook


@pytest.fixture(scope="module")
def hook():
    return load_hook("corral_headers")


async def headers_of(hook, response: object, info: dict[str, object] | None) -> dict[str, str] | None:
    return await hook.headers.async_post_call_response_headers_hook({}, None, response, {}, info)


async def test_what_the_server_said_of_itself_reaches_the_client(hook) -> None:
    response = SimpleNamespace(
        _hidden_params={
            "additional_headers": {
                "llm_provider-x-corral-server": "chat-2",
                "llm_provider-x-corral-busy": 1,
                "llm_provider-server": "uvicorn",
                "x-litellm-model-group": "chat",
            }
        }
    )
    assert await headers_of(hook, response, {"model_id": "chat-1"}) == {
        "x-corral-server": "chat-2",
        "x-corral-busy": "1",
    }


async def test_an_answer_that_lost_its_headers_still_names_the_deployment(hook) -> None:
    assert await headers_of(hook, SimpleNamespace(), {"model_id": "embed-1"}) == {"x-corral-server": "embed-1"}


async def test_a_request_that_reached_no_server_names_none(hook) -> None:
    assert await headers_of(hook, None, None) is None
