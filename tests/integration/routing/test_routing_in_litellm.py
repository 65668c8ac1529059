"""The routing hook in LiteLLM's own router, with servers that answer and fail as they are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.routed_servers import RoutedServer
from support.waiting import wait_until_async

pytestmark = pytest.mark.integration

OUT_S = 2.0


@pytest.fixture
async def servers() -> AsyncIterator[list[RoutedServer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(RoutedServer(f"chat-{number}")) for number in (1, 2, 3)]


@pytest.fixture
async def hook() -> AsyncIterator[Any]:
    import corral_retries
    import litellm
    from corral_routing.hook import CorralRouting

    before = list(litellm.callbacks)
    routing = CorralRouting()
    litellm.callbacks[:] = [corral_retries.retries, routing]
    yield routing
    await routing.stop()
    litellm.callbacks[:] = before


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class Gate:
    """LiteLLM's router over servers, as the rendered configuration sets it."""

    def __init__(self, servers: list[RoutedServer], hook: Any, **settings: Any) -> None:
        import litellm

        self.servers, self.hook = servers, hook
        self.router = litellm.Router(
            model_list=[server.deployment() for server in servers],
            **{
                "routing_strategy": "least-busy", "num_retries": 2, "retry_after": 0, "allowed_fails": 3,
                "cooldown_time": 60, **settings,
            },
        )  # fmt: skip

    async def ask(self, text: str = "hello", turns: int = 1) -> str:
        """Return the server that answered a conversation."""
        messages: list[dict[str, str]] = []
        for turn in range(turns):
            messages += [{"role": "assistant", "content": f"answer {turn}"}] if turn else []
            messages += [{"role": "user", "content": f"{text} {turn} " * 600}]
        before = {server.name: server.answered for server in self.servers}
        await self.router.acompletion(model="chat", messages=messages)
        (name,) = [server.name for server in self.servers if server.answered != before[server.name]]
        return name

    async def heard_of(self) -> None:
        """Wait until all servers have reported."""
        self.hook.start()
        await self.until(lambda: all(self.standing(server) == "ready" for server in self.servers))

    def standing(self, server: RoutedServer) -> str:
        return self.hook.document()["servers"].get(server.name, {}).get("standing", "")

    async def until(self, condition: Any, timeout_s: float = 5.0) -> None:
        async def met() -> bool:
            return bool(condition())

        await wait_until_async(met, timeout_s, "the router to see it", interval_s=0.02)


@pytest.fixture
async def gate(servers: list[RoutedServer], hook: Any) -> Gate:
    gate = Gate(servers, hook)
    await gate.ask("first")
    await gate.heard_of()
    return gate


async def test_a_chat_stays_on_one_server_and_chats_spread(gate: Gate) -> None:
    chats = {text: [await gate.ask(text, turns) for turns in (1, 2, 3, 4)] for text in ("a", "b", "c", "d", "e", "f")}
    assert all(len(set(servers)) == 1 for servers in chats.values())
    assert len({servers[0] for servers in chats.values()}) > 1


async def test_requests_at_the_same_time_spread(gate: Gate) -> None:
    for server in gate.servers:
        server.delay_s, server.requests = 0.2, 0
    await asyncio.gather(
        *(gate.router.acompletion(model="chat", messages=[{"role": "user", "content": f"{n}"}]) for n in range(6))
    )
    assert [server.requests for server in gate.servers] == [2, 2, 2]


@pytest.mark.parametrize("code", [500, 503, 429])
async def test_a_server_that_fails_is_left_and_the_request_is_answered_elsewhere(gate: Gate, code: int) -> None:
    home = await gate.ask("a", 1)
    (failing,) = [server for server in gate.servers if server.name == home]
    failing.fail_with = code
    assert await gate.ask("a", 2) != home
    assert failing.requests <= 3


async def test_a_server_out_of_health_leaves_and_returns_within_2_s(gate: Gate) -> None:
    clock = asyncio.get_running_loop().time
    server = gate.servers[0]
    for state in ("draining", "restarting"):
        server.state, since = state, clock()
        await gate.until(lambda: gate.standing(server) not in ("ready", "unknown"))
        assert clock() - since < OUT_S
        assert server.name not in {await gate.ask(f"{number}") for number in range(4)}
        server.state, server.generation, since = "ready", server.generation + 1, clock()
        await gate.until(lambda: gate.standing(server) == "ready")
        assert clock() - since < OUT_S


async def test_a_server_that_is_gone_or_silent_leaves_and_returns_within_2_s(gate: Gate) -> None:
    clock = asyncio.get_running_loop().time
    server = gate.servers[0]
    await server.close()
    since = clock()
    await gate.until(lambda: gate.standing(server) == "out")
    assert clock() - since < OUT_S
    await server.listen()
    since = clock()
    await gate.until(lambda: gate.standing(server) == "ready")
    assert clock() - since < OUT_S
    server.status_delay_s, since = 30.0, clock()
    await gate.until(lambda: gate.standing(server) == "out")
    assert clock() - since < OUT_S + 0.2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b"[" * 50_000,
        b'{"state": "ready", "busy": -5}',
        b'{"state": "ready", "busy": 1e400}',
        b"x" * 10**6,
    ],
)
async def test_a_status_that_lies_costs_no_request(gate: Gate, body: bytes) -> None:
    for server in gate.servers:
        server.status_body = body
    await gate.until(lambda: all(gate.standing(server) == "unknown" for server in gate.servers))
    assert await gate.ask("a")


async def test_a_server_without_status_is_asked_seldom_and_still_used(servers: list[RoutedServer], hook: Any) -> None:
    for server in servers:
        server.status_code = 404
    gate = Gate(servers, hook)
    await gate.ask("a")
    await gate.until(lambda: all(gate.standing(server) == "foreign" for server in servers))
    assert await gate.ask("b")
    assert all(server.polls == 1 for server in servers)


async def test_a_key_that_is_refused_leaves_the_servers_in_use(servers: list[RoutedServer], hook: Any) -> None:
    for server in servers:
        server.status_code = 401
    gate = Gate(servers, hook)
    await gate.ask("a")
    await gate.until(lambda: all("key" in one["reason"] for one in hook.document()["servers"].values()))
    assert await gate.ask("b")


async def test_all_full_is_one_429_with_a_time_and_asks_nobody(gate: Gate) -> None:
    import litellm

    for server in gate.servers:
        server.busy, server.queued = 2, 2
    await gate.until(lambda: all(one["requests"] == 4 for one in gate.hook.document()["servers"].values()))
    before = [server.requests for server in gate.servers]
    with pytest.raises(litellm.RateLimitError, match="every server of 'chat' is full") as refused:
        await gate.ask("a")
    assert int(refused.value.headers["retry-after"]) >= 1
    assert [server.requests for server in gate.servers] == before


async def test_servers_that_say_full_only_when_asked_are_asked_once_each(gate: Gate) -> None:
    import litellm

    for server in gate.servers:
        server.fail_with, server.requests = 429, 0
    with pytest.raises(litellm.RateLimitError):
        await gate.router.acompletion(model="chat", messages=said("x"))
    assert [server.requests for server in gate.servers] == [1, 1, 1]


async def test_when_the_hook_raises_the_request_still_goes_out(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(gate.hook.router, "pick", broken)
    assert await gate.ask("a")
    assert b'corral_routing_passed_on_total{cause="error"} 1.0' in gate.hook.metrics.text()[0]


async def test_embeddings_go_by_the_wait_alone(servers: list[RoutedServer], hook: Any) -> None:
    import litellm

    router = litellm.Router(
        model_list=[server.deployment("embed", "embedding") for server in servers], routing_strategy="least-busy"
    )
    await router.aembedding(model="embed", input="a text")
    for server in servers[:2]:
        server.busy = 2
    await wait_until_async(
        lambda: asyncio.sleep(0, [one["requests"] for one in hook.document()["servers"].values()] == [2, 2, 0]),
        5,
        "the reports",
    )
    before = servers[2].requests
    for _ in range(3):
        await router.aembedding(model="embed", input="a text")
    assert servers[2].requests == before + 3
    assert all(one["remembered_prompts"] == 0 for one in hook.document()["servers"].values())


async def test_two_servers_with_one_id_are_told_apart(servers: list[RoutedServer], hook: Any) -> None:
    for server in servers[:2]:
        server.name = "twin"
    deployments = [server.deployment() for server in servers[:2]]
    got = {
        (await hook.async_filter_deployments("chat", deployments, said(f"{n}"), {}))[0]["litellm_params"]["api_base"]
        for n in range(8)
    }
    assert len(got) == 2


async def test_ten_thousand_models_leave_nothing_behind(servers: list[RoutedServer], hook: Any) -> None:
    deployments = [server.deployment() for server in servers]
    for number in range(10_000):
        await hook.async_filter_deployments(f"model-{number}", [], [], {})
    await hook.async_filter_deployments("chat", deployments, [], {})
    assert set(hook.document()["servers"]) == {server.name for server in servers}
    assert hook.metrics.text()[0].count(b"model-") == 0


async def test_the_metrics_tell_picks_hits_and_errors(gate: Gate) -> None:
    await gate.ask("a", 1)
    await gate.ask("a", 2)
    await gate.until(lambda: b'reason="cache"' in gate.hook.metrics.text()[0])
    await gate.until(lambda: b"corral_routing_cached_tokens_total 0.0" not in gate.hook.metrics.text()[0])
    assert b"corral_routing_report_age_seconds{server=" in gate.hook.metrics.text()[0]


async def test_litellms_cooldown_ends_when_the_server_is_ready(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    from corral_routing import hook as module

    server = gate.servers[0]
    deployment = server.deployment()
    gate.router.cooldown_cache.add_deployment_to_cooldown(server.name, RuntimeError("failed"), 500, 60.0)

    async def cooling() -> list[str]:
        active = await gate.router.cooldown_cache.async_get_active_cooldowns([server.name], None)
        return [name for name, _ in active]

    assert await cooling() == [deployment["model_info"]["id"]]
    monkeypatch.setattr(module, "_litellm_router", lambda: gate.router)
    since = asyncio.get_running_loop().time()
    await wait_until_async(lambda: _none(cooling), 5, "the cooldown to end")
    assert asyncio.get_running_loop().time() - since < OUT_S


async def _none(found: Any) -> bool:
    return not await found()


async def test_a_limit_of_requests_a_minute_counts_for_each_server_and_none_is_refused_early(
    servers: list[RoutedServer], hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litellm
    from corral_routing import hook as module

    router = litellm.Router(
        model_list=[server.deployment(rpm=4) for server in servers],
        routing_strategy="least-busy", num_retries=0, enable_pre_call_checks=True,
    )  # fmt: skip
    monkeypatch.setattr(module, "_litellm_router", lambda: router)
    same = said("the same chat, that one server remembers " * 50)
    for _ in range(12):
        await router.acompletion(model="chat", messages=same)
    assert [server.answered for server in servers] == [4, 4, 4]
