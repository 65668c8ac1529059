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
from routing_sim.engine import Card

Turn = Callable[[str, Sequence[Message], int], str]
"""Names the server of a turn."""
SHORT_WORDS, LONG_WORDS, LONGEST_WORDS = 15, 120, 320
DECODE_TOKENS = 32


@dataclass(frozen=True)
class Server:
    """A gpu-server: its name, its address without `/v1`, its key."""

    name: str
    url: str
    key: str


async def measured(servers: Sequence[Server], *, slots: int, context: int, salt: str, rounds: int) -> dict[str, Card]:
    """Return each server's figures as the simulator takes them, measured while nothing else runs.

    The time to the first token of new prompts of three lengths gives the prefill rate, how it falls with the tokens
    before, and what each request costs besides; answers of one and of two streams at a time give the decode rate and
    what sharing costs.

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
    lengths: dict[int, list[Answered]] = {SHORT_WORDS: [], LONG_WORDS: [], LONGEST_WORDS: []}
    alone, shared = list[Answered](), list[Answered]()
    for _ in range(rounds):
        for words, answers in lengths.items():
            answers.append(await ask(words, 2))
        alone.append(await ask(SHORT_WORDS, DECODE_TOKENS))
        shared += await asyncio.gather(ask(SHORT_WORDS, DECODE_TOKENS), ask(SHORT_WORDS, DECODE_TOKENS))
    prefill_rate, reach, overhead_s = fitted(
        [(median(map(_uncached, answers)), median(one.ttft_s for one in answers)) for answers in lengths.values()]
    )
    token_s = median(map(_token_s, alone))
    sharing = max(0.0, median(map(_token_s, shared)) / token_s - 1)
    return Card(
        slots=slots, context=context, prefill_rate=prefill_rate, decode_rate=1 / token_s, tokens_kept=20_000,
        sharing=sharing, overhead_s=overhead_s, reach=reach,
    )  # fmt: skip


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return prefill rate, `reach` and overhead (see `Card`) that give the times of three prompts, the shortest first.

    The time of a prompt of n tokens is overhead + n / rate + reach x n^2 / (2 x rate): a parabola through three points.

    Args:
        points: tokens of each, and seconds to its first token.
    """
    (n1, t1), (n2, t2), (n3, t3) = points
    slope, next_slope = (t2 - t1) / (n2 - n1), (t3 - t2) / (n3 - n2)
    bend = max(0.0, 2 * (next_slope - slope) / (n3 - n1))
    token_s = max(1e-6, slope - bend * (n1 + n2) / 2) if bend else max(1e-6, (t3 - t1) / (n3 - n1))
    return 1 / token_s, bend / token_s, max(0.0, t1 - n1 * token_s - bend * n1**2 / 2)


async def contention(servers: Sequence[Server], *, salt: str, rounds: int) -> float:
    """Return by which share a prompt takes longer while the other server of two reads one too.

    Args:
        servers: two idle ones on one machine.
        salt: makes the prompts new.
        rounds: how often; the medians count.
    """
    random = Random(salt)

    async def read(client: Client, server: Server) -> float:
        said = [{"role": "user", "content": f"{salt} {text(random, LONG_WORDS)}"}]
        one = await client.ask(server.url, "0.0", said, 2)
        return one.ttft_s / _uncached(one)

    async with new_session() as session:
        alone, both = list[float](), list[float]()
        clients = [(Client(session, one.key), one) for one in servers]
        for _ in range(rounds):
            for client, one in clients:
                alone.append(await read(client, one))
            both += await asyncio.gather(*(read(client, one) for client, one in clients))
    return max(0.0, median(both) / median(alone) - 1)


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
