"""Whom the poller asks when the configuration changes under it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random

import pytest
from aiohttp import web

from corral_routing.poller import Place, Poller
from corral_routing.router import Router

DEADLINE_S = 5


@asynccontextmanager
async def server(asked: list[str]) -> AsyncIterator[str]:
    """A server that knows the key `new` alone; notes the keys that it is asked with."""

    async def status(request: web.Request) -> web.Response:
        asked.append(request.headers["authorization"].removeprefix("Bearer "))
        return web.Response(status=401 if asked[-1] != "new" else 404)

    app = web.Application()
    app.router.add_get("/status", status)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/status"
    finally:
        await runner.cleanup()


async def test_a_server_with_another_key_is_asked_anew_and_not_after_the_half_minute_that_the_old_one_earned() -> None:
    asked: list[str] = []
    places: list[Place] = []

    def current() -> Iterable[Place]:
        return places

    async with server(asked) as url:
        places[:] = [Place("chat-1", url, "old")]
        polling = asyncio.create_task(Poller(Router(Random(1)), current, lambda _name: None, Random(1)).run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                while "old" not in asked:
                    await asyncio.sleep(0.01)
                places[:] = [Place("chat-1", url, "new")]
                while "new" not in asked:
                    await asyncio.sleep(0.01)
        finally:
            polling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await polling
    assert asked.count("old") == 1
