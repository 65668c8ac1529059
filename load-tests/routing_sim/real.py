"""Two real gpu-servers under the router's own code, without LiteLLM between: what the simulator is held against."""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from statistics import median
from time import monotonic

from bench_routing_chats import Answered, Client, Message, Talk, new_session, run, text

from corral_routing.poller import Place, Poller
from corral_routing.prompts import prompt_of
from corral_routing.reports import load_of
from corral_routing.router import Router, Usage
from routing_sim.server import Card

Turn = Callable[[str, Sequence[Message], int], str]
"""Names the server of a turn."""
SHORT_WORDS, LONG_WORDS = 15, 150
DECODE_TOKENS = 32


@dataclass(frozen=True)
class Server:
    """A gpu-server: its name, its address without `/v1`, its key."""

    name: str
    url: str
    key: str


async def measured(servers: Sequence[Server], *, slots: int, context: int, salt: str, rounds: int) -> dict[str, Card]:
    """Return each server's figures as the simulator takes them, measured while nothing else runs.

    The time to the first token of new prompts of two lengths gives the prefill rate and what each request costs
    besides; answers of one and of two streams at a time give the decode rate and what sharing costs.

    Args:
        servers: idle ones.
        slots: of each, two or more.
        context: tokens of each slot.
        salt: makes the prompts new.
        rounds: how often; the medians count.
    """
    async with new_session() as session:
        return {
            one.name: await _measured(
                Client(session, one.key), one, slots=slots, context=context, salt=salt, rounds=rounds
            )
            for one in servers
        }


async def _measured(client: Client, server: Server, *, slots: int, context: int, salt: str, rounds: int) -> Card:
    random = Random(salt)

    async def ask(words: int, tokens: int) -> Answered:
        said = [{"role": "user", "content": f"{salt} {text(random, words)}"}]
        return await client.ask(server.url, "0.0", said, tokens)

    await ask(SHORT_WORDS, 4)  # the first one pays for what is made once
    short, long, alone, shared = list[Answered](), list[Answered](), list[Answered](), list[Answered]()
    for _ in range(rounds):
        short.append(await ask(SHORT_WORDS, 2))
        long.append(await ask(LONG_WORDS, 2))
        alone.append(await ask(SHORT_WORDS, DECODE_TOKENS))
        shared += await asyncio.gather(ask(SHORT_WORDS, DECODE_TOKENS), ask(SHORT_WORDS, DECODE_TOKENS))
    spent_s = median(one.ttft_s for one in long) - median(one.ttft_s for one in short)
    read = median(_uncached(one) for one in long) - median(_uncached(one) for one in short)
    prefill_rate = read / max(spent_s, 1e-3)
    overhead_s = max(0.0, median(one.ttft_s - _uncached(one) / prefill_rate for one in short))
    token_s = median(map(_token_s, alone))
    sharing = max(0.0, median(map(_token_s, shared)) / token_s - 1)
    return Card(
        slots=slots, context=context, prefill_rate=prefill_rate, decode_rate=1 / token_s, tokens_kept=20_000,
        sharing=sharing, overhead_s=overhead_s,
    )  # fmt: skip


def _uncached(one: Answered) -> int:
    return one.prompt_tokens - one.cached_tokens


def _token_s(one: Answered) -> float:
    return (one.ended_s - one.sent_s - one.ttft_s) / (one.answer_tokens - 1)


async def by_turns(given: Sequence[Talk], servers: Sequence[Server]) -> tuple[list[Answered], dict[str, list[Message]]]:
    """Hold the conversations on one server after another; return the answers, and what was sent for each request."""
    turns = itertools.cycle(servers)
    asked: dict[str, list[Message]] = {}
    async with new_session() as session:
        client = Client(session, servers[0].key)

        async def ask(call: str, messages: Sequence[Message], tokens: int) -> Answered:
            asked[call] = list(messages)
            return await client.ask(next(turns).url, call, messages, tokens)

        return await run(given, ask, client.said.__getitem__), asked


async def routed(
    given: Sequence[Talk], servers: Sequence[Server], random: Random
) -> tuple[list[Answered], dict[str, list[Message]]]:
    """Hold the conversations where the router says; return as `by_turns`."""
    router, urls = Router(random), {one.name: one.url for one in servers}
    places = [Place(one.name, f"{one.url}/status", one.key) for one in servers]
    asked: dict[str, list[Message]] = {}
    async with new_session() as session:
        client = Client(session, servers[0].key)

        async def ask(call: str, messages: Sequence[Message], tokens: int) -> Answered:
            asked[call] = list(messages)
            choice = router.pick(call, list(urls), prompt_of({}, messages), monotonic())
            name = choice.chosen.name if choice else servers[0].name

            def began(headers: Mapping[str, str]) -> None:
                router.began(call, load_of(headers), monotonic())

            sent = monotonic()
            one = await client.ask(urls[name], call, messages, tokens, began)
            now = monotonic()
            usage = Usage(one.prompt_tokens, one.cached_tokens, one.answer_tokens, one.ttft_s, now - sent)
            router.ended(call, usage, now)
            return one

        heard, ready = asyncio.Event(), set[str]()

        def is_ready(name: str) -> None:
            ready.add(name)
            if len(ready) == len(servers):
                heard.set()

        polling = asyncio.create_task(Poller(router, lambda: places, is_ready, random).run())
        try:
            await asyncio.wait_for(heard.wait(), 30)
            return await run(given, ask, client.said.__getitem__), asked
        finally:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling
