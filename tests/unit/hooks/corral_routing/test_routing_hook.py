import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from corral_routing.answers import usage_of
from corral_routing.deployments import names_of, place_of
from corral_routing.hook import EXPLAIN, CorralRouting

START = datetime(2026, 1, 1)  # noqa: DTZ001  # without a time zone, as LiteLLM's


def wall_clock() -> datetime:
    return datetime.now()  # noqa: DTZ005  # likewise


def deployment(name: object = "chat-1", base: object = "http://box:8001/v1", **parameters: object) -> dict[str, Any]:
    return {"litellm_params": {"api_base": base, **parameters}, "model_info": {"id": name, "mode": "chat"}}


@pytest.mark.parametrize("base", ["http://box:8001/v1", "http://box:8001/v1/", "http://box:8001"])
def test_where_a_servers_status_is(base: str) -> None:
    place = place_of(deployment(base=base, api_key="k"))
    assert place is not None
    assert (place.name, place.url, place.key) == ("chat-1", "http://box:8001/status", "k")


@pytest.mark.parametrize(
    "other", [deployment("provider.gpt"), deployment(base=None), deployment(7), {}, {"model_info": None}]
)
def test_what_is_no_gpu_server_is_not_asked(other: dict[str, Any]) -> None:
    assert place_of(other) is None


def test_servers_with_one_id_get_names_of_their_own() -> None:
    places = [place_of(deployment(name, f"http://box:{port}")) for name, port in (("a", 1), ("b", 2), ("a", 3))]
    names = names_of([place for place in places if place])
    assert names[1] == "b"
    assert len(set(names)) == 3


def usage(prompt: object, cached: object, **times: Any) -> Any:
    details = SimpleNamespace(cached_tokens=cached)
    response = SimpleNamespace(
        usage=SimpleNamespace(prompt_tokens=prompt, completion_tokens=5, prompt_tokens_details=details)
    )
    return usage_of({"stream": True, "api_call_start_time": START, **times}, response, START + timedelta(seconds=3))


def test_what_an_answer_cost() -> None:
    told = usage(100, 40, completion_start_time=START + timedelta(seconds=1))
    assert (told.prompt_tokens, told.cached_tokens, told.answer_tokens) == (100, 40, 5)
    assert (told.first_token_s, told.took_s) == (1.0, 3.0)


def test_a_stream_that_told_no_usage_says_nothing_of_the_cache() -> None:
    assert usage(0, None).prompt_tokens is None
    assert usage(0, None).cached_tokens is None


@pytest.mark.parametrize("lie", [-1, 2**40, "7", 1.5, None])
def test_counts_that_cannot_be_are_dropped(lie: object) -> None:
    assert usage(lie, lie).prompt_tokens is None
    assert usage(lie, lie).cached_tokens is None


@pytest.mark.parametrize("first", [START - timedelta(hours=1), datetime(2026, 1, 1, tzinfo=UTC), None, 7])
def test_a_wall_clock_put_back_gives_no_time(first: object) -> None:
    assert usage(1, 1, completion_start_time=first).first_token_s is None


@pytest.mark.parametrize("response", [None, SimpleNamespace(), SimpleNamespace(usage=7), "text"])
def test_any_answer_is_taken(response: object) -> None:
    assert usage_of({}, response, None).prompt_tokens is None


class Chosen:
    """A hook that chose for one request, without LiteLLM."""

    def __init__(self) -> None:
        self.hook = CorralRouting()
        self.request: dict[str, Any] = {"litellm_call_id": "call"}
        self.deployments = [deployment("chat-1", "http://127.0.0.1:9"), deployment("chat-2", "http://127.0.0.1:9/2")]

    async def choose(self) -> str:
        messages = [{"role": "user", "content": "hello"}]
        (chosen,) = await self.hook.async_filter_deployments("chat", self.deployments, messages, self.request)
        return chosen["model_info"]["id"]

    def failures(self, server: str) -> int:
        return self.hook.document()["servers"][server]["failures_in_a_row"]


@pytest.fixture
async def chosen() -> Any:
    one = Chosen()
    yield one
    await one.hook.stop()


async def test_who_asks_is_told_why(chosen: Chosen) -> None:
    server = await chosen.choose()
    headers = await chosen.hook.async_post_call_response_headers_hook(chosen.request, None, None, {EXPLAIN: "1"})
    assert headers is not None
    assert headers["x-corral-routing"].startswith(f"{server} (tie): ")
    assert "chat-1 estimate=" in headers["x-corral-routing"]
    assert await chosen.hook.async_post_call_response_headers_hook(chosen.request, None, None, {}) is None


async def test_the_log_says_why(chosen: Chosen, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "corral.routing"):
        server = await chosen.choose()
    assert f"call -> {server} (tie)" in caplog.text
    assert "hello" not in caplog.text


@pytest.mark.parametrize(("status", "failures"), [(500, 1), (None, 1), (408, 1), (400, 0), (401, 0), (429, 0)])
async def test_only_a_servers_own_fault_counts_against_it(chosen: Chosen, status: int | None, failures: int) -> None:
    server = await chosen.choose()
    error = Exception("made up")
    error.status_code = status  # type: ignore[attr-defined]
    await chosen.hook.async_post_call_failure_deployment_hook(chosen.request, error, None)
    assert chosen.failures(server) == failures
    assert chosen.hook.document()["under_way"] == 0


def answer() -> Any:
    details = SimpleNamespace(cached_tokens=0)
    usage = SimpleNamespace(prompt_tokens=90, completion_tokens=5, prompt_tokens_details=details)
    load = {f"llm_provider-x-corral-{name}": count for name, count in (("busy", "1"), ("queued", "0"), ("slots", "2"))}
    return SimpleNamespace(usage=usage, _hidden_params={"additional_headers": load})


async def test_a_whole_answer_frees_its_slot_before_its_event_comes(chosen: Chosen) -> None:
    server = await chosen.choose()
    assert chosen.hook.document()["servers"][server]["requests"] == 1
    await chosen.hook.async_post_call_response_headers_hook(chosen.request, None, answer(), {})
    assert chosen.hook.document()["servers"][server]["requests"] == 0
    assert chosen.hook.document()["servers"][server]["remembered_tokens"] == 95


async def test_a_stream_frees_its_slot_at_its_end_and_teaches_when_its_event_comes(chosen: Chosen) -> None:
    server = await chosen.choose()
    stream = SimpleNamespace(_hidden_params=answer()._hidden_params)
    await chosen.hook.async_post_call_response_headers_hook(chosen.request, None, stream, {})
    assert chosen.hook.document()["servers"][server]["requests"] == 1
    chosen.hook.request_over("call")
    chosen.hook.request_over("of another")
    assert chosen.hook.document()["servers"][server]["requests"] == 0
    assert chosen.hook.document()["under_way"] == 1
    told = {"litellm_call_id": "call", "stream": True}
    await chosen.hook.async_log_success_event(told, answer(), None, wall_clock())
    assert chosen.hook.document()["under_way"] == 0
    assert chosen.hook.document()["servers"][server]["remembered_tokens"] == 95


async def test_a_failure_told_late_is_not_counted_against_the_next_try(chosen: Chosen) -> None:
    failed_at = wall_clock() - timedelta(seconds=5)
    server = await chosen.choose()
    told = {"litellm_call_id": "call", "litellm_params": {"model_info": {"id": server}}, "exception": Exception("x")}
    await chosen.hook.async_log_failure_event(told, None, failed_at, failed_at)
    assert chosen.failures(server) == 0
    await chosen.hook.async_log_failure_event(told, None, failed_at, wall_clock() + timedelta(seconds=1))
    assert chosen.failures(server) == 1


@pytest.mark.parametrize("request_", [None, {}, {"messages": 7, "tools": {1: {2}}}, {"litellm_call_id": None}])
async def test_any_request_is_routed(chosen: Chosen, request_: Any) -> None:
    assert len(await chosen.hook.async_filter_deployments("chat", chosen.deployments, None, request_)) == 1


async def test_a_providers_deployments_are_left_to_litellm(chosen: Chosen) -> None:
    deployments = [deployment("provider.gpt"), deployment("provider.other")]
    assert await chosen.hook.async_filter_deployments("gpt", deployments, [], {}) == deployments
