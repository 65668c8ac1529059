"""Simulated servers that listen: what a router sees of them is what it would see of gpu-servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import aiohttp
import pytest
from bench_routing_chats import Client, RefusedError, new_session
from routing_sim.over_http import CARD, serve

from corral_routing.reports import load_of, status_of
from support.ports import free_port
from support.waiting import wait_until_async

CHAT = [{"role": "system", "content": "x" * 4000}, {"role": "user", "content": "hello"}]


@asynccontextmanager
async def listening(**figures: object) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    port = free_port()
    task = asyncio.create_task(serve([port], replace(CARD, prefill_rate=20_000, **figures)))  # type: ignore[arg-type]
    url = f"http://127.0.0.1:{port}"
    async with new_session() as session:

        async def healthy() -> bool:
            async with session.get(f"{url}/health") as answer:
                return answer.status == 200

        await wait_until_async(healthy, 10, "the simulated server to listen")
        yield url, session
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def simulate(session: aiohttp.ClientSession, url: str, **wanted: float) -> None:
    async with session.post(f"{url}/simulate", json=wanted) as answer:
        assert answer.status == 200


async def test_a_next_turn_finds_the_one_before_and_status_is_one_a_router_takes() -> None:
    async with listening() as (url, session):
        client, heads = Client(session, ""), list[object]()
        first = await client.ask(url, "0.0", CHAT, 4, lambda headers: heads.append(load_of(headers)))
        answer = {"role": "assistant", "content": client.said["0.0"]}
        second = await client.ask(url, "0.1", [*CHAT, answer, CHAT[1]], 4)
        async with session.get(f"{url}/status") as told:
            status = status_of(await told.json())
    assert (first.cached_tokens, first.answer_tokens, first.server) == (0, 4, "chat-1")
    assert first.prompt_tokens > 1000
    assert second.cached_tokens > 1000
    assert first.ttft_s > 1000 / 20_000
    assert heads[0] is not None
    assert (status.load.busy, status.load.slots, status.prefill_rate) == (0, 4, 20_000)


async def test_a_faster_server_says_so() -> None:
    async with listening() as (url, session):
        await simulate(session, url, speed=2.0)
        async with session.get(f"{url}/status") as told:
            assert status_of(await told.json()).prefill_rate == 40_000
        async with session.post(f"{url}/simulate", json={"speed": -1}) as answer:
            assert answer.status == 400


async def test_full_and_lost_servers_refuse_as_gpu_servers_do() -> None:
    async with listening(slots=1, max_queue=0, decode_rate=0.1) as (url, session):
        client = Client(session, "")
        began = asyncio.Event()
        under_way = asyncio.create_task(client.ask(url, "0.0", CHAT, 8, lambda _headers: began.set()))
        await asyncio.wait_for(began.wait(), 10)
        async with session.post(f"{url}/v1/chat/completions", json={"messages": CHAT}) as answer:
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        await simulate(session, url, lost_s=60)
        with pytest.raises(RefusedError, match="broke"):
            await under_way
        with pytest.raises(RefusedError, match="503"):
            await client.ask(url, "1.0", CHAT, 8)
        async with session.get(f"{url}/status") as told:
            assert status_of(await told.json()).state == "restarting"


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"{}", b'{"messages": [{}], "max_tokens": "x"}'])
async def test_what_is_no_chat_is_refused(body: bytes) -> None:
    headers = {"content-type": "application/json"}
    async with (
        listening() as (url, session),
        session.post(f"{url}/v1/chat/completions", data=body, headers=headers) as answer,
    ):
        assert answer.status == 400
        assert "is no chat" in (await answer.json())["error"]["message"]
