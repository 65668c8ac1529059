"""Real conversations for real servers: what is asked, asked of an OpenAI endpoint, and what came of it.

Conversations share system prompts, begin at random and think between turns; each turn carries the answers before it,
as clients do. `salt` makes all prompts new to servers that remember those of another run.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import quantiles
from typing import Any

import aiohttp

Message = dict[str, str]
Began = Callable[[Mapping[str, str]], None]
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "wo", "zu")
DEADLINE_S = 180.0
MOST_TRIES = 20


@dataclass(frozen=True)
class Talk:
    """A conversation: when it begins, what is said in each turn, and how long its user thinks before each.

    Args:
        number: of the conversation; -1 and below share nothing with others.
        begins_s: seconds after the start of the run.
        system: the system prompt; empty: none.
        says: the user's message of each turn.
        thinks_s: seconds between an answer and the next turn.
        answer_tokens: of each answer, neither more nor less.
    """

    number: int
    begins_s: float
    system: str
    says: tuple[str, ...]
    thinks_s: tuple[float, ...]
    answer_tokens: int


@dataclass(frozen=True)
class Answered:
    """One turn's answer; times in seconds since the start of the run, `ttft_s` from the request to its first token."""

    talk: int
    turn: int
    sent_s: float
    ttft_s: float
    ended_s: float
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    server: str


class RefusedError(Exception):
    """An answer that is none; says which and why."""


Ask = Callable[[str, Sequence[Message], int], Awaitable[Answered]]
"""Asks for one turn: the name of the request, the conversation so far, the answer's tokens."""


@dataclass(frozen=True)
class Lengths:
    """Between which bounds lengths are drawn: words of texts, tokens of answers; `systems` are the system prompts'."""

    systems: tuple[int, ...] = (60, 180)
    says: tuple[int, int] = (15, 45)
    shots: tuple[int, int] = (120, 120)
    answers: tuple[int, int] = (8, 24)


def talks(
    seed: int, count: int, turns: int | tuple[int, int], *, salt: str, each_s: float, thinks_s: float, shots: int = 0,
    burst: int = 1, lengths: Lengths = Lengths(),
) -> list[Talk]:  # fmt: skip
    """Return conversations, and `shots` prompts that stand alone among them.

    Args:
        seed: the same gives the same, but for the salt.
        count: conversations.
        turns: of each, or the least and the most.
        salt: the first word of each system prompt.
        each_s: mean time between two beginnings.
        thinks_s: mean time between an answer and the next turn.
        shots: prompts without a second turn and without a system prompt.
        burst: how many begin at a time.
        lengths: of what is said.
    """
    random = Random(seed)
    least, most = (turns, turns) if isinstance(turns, int) else turns
    systems = [text(random, words) for words in lengths.systems]
    found, begins_s = [], 0.0
    order = [True] * count + [False] * shots
    random.shuffle(order)
    for number, is_chat in enumerate(order):
        if number % burst == 0:
            begins_s += random.expovariate(1 / (each_s * burst))
        length = random.randint(least, most) if is_chat else 1
        system = f"{salt} {random.choice(systems)}" if is_chat else ""
        words = lengths.says if is_chat else lengths.shots
        says = tuple(text(random, random.randint(*words)) for _ in range(length))
        if not is_chat:
            says = (f"{salt} {number} {says[0]}",)
        pauses = tuple(random.expovariate(1 / thinks_s) for _ in range(length - 1))
        found.append(Talk(number, begins_s, system, says, pauses, random.randint(*lengths.answers)))
    return found


def text(random: Random, words: int) -> str:
    """Return words that a model has no reason to expect."""
    return " ".join("".join(random.choices(SYLLABLES, k=random.randint(1, 3))) for _ in range(words))


async def run(
    given: Sequence[Talk], ask: Ask, answer_of: Callable[[str], str], failed: list[str] | None = None
) -> list[Answered]:
    """Hold all conversations and return their answers in the order of their sending.

    Args:
        given: the conversations.
        ask: sends a turn.
        answer_of: gives the text of a request's answer, to be sent back with the next turn.
        failed: takes what was said of requests that failed, whose conversations then end; None: the first one raises.
    """
    answers: list[Answered] = []

    async def hold(talk: Talk) -> None:
        await asyncio.sleep(talk.begins_s)
        messages = [{"role": "system", "content": talk.system}] if talk.system else []
        for turn, said in enumerate(talk.says):
            if turn:
                await asyncio.sleep(talk.thinks_s[turn - 1])
            messages.append({"role": "user", "content": said})
            call = f"{talk.number}.{turn}"
            try:
                answers.append(await ask(call, messages, talk.answer_tokens))
            except (RefusedError, aiohttp.ClientError, TimeoutError) as error:
                if failed is None:
                    raise
                failed.append(str(error))
                return
            messages.append({"role": "assistant", "content": answer_of(call)})

    async with asyncio.TaskGroup() as tasks:
        for talk in given:
            tasks.create_task(hold(talk))
    return sorted(answers, key=lambda one: one.sent_s)


class Client:
    """Asks an endpoint for streams and times them; a 429 is asked again when its `Retry-After` is over."""

    def __init__(self, session: aiohttp.ClientSession, key: str) -> None:
        self._session = session
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._began = time.monotonic()
        self.said: dict[str, str] = {}
        self.refused = 0

    async def ask(
        self, base: str, call: str, messages: Sequence[Message], tokens: int, began: Began | None = None
    ) -> Answered:
        """Ask the endpoint at `base` (without `/v1`) for one turn; the time of refusals counts.

        Args:
            base: the endpoint.
            call: the request's name, `talk.turn`.
            messages: the conversation so far.
            tokens: of the answer.
            began: called with the headers of an answer that begins.

        Raises:
            RefusedError: Another status than 200 and 429, or a stream that breaks off or has no usage.
        """
        body = {
            "model": "chat", "messages": list(messages), "max_tokens": tokens, "stream": True, "temperature": 0,
            "ignore_eos": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        sent = time.monotonic()
        for _ in range(MOST_TRIES):
            url = f"{base}/v1/chat/completions"
            async with self._session.post(url, json=body, headers=self._headers) as answer:
                if answer.status == 429:
                    self.refused += 1
                    await answer.read()
                    await asyncio.sleep(float(answer.headers.get("retry-after", "1")))
                    continue
                if answer.status != 200:
                    raise RefusedError(f"{url} answered {answer.status}: {(await answer.text())[:300]}")
                if began is not None:
                    began(answer.headers)
                return await self._read(answer, call, sent)
        raise RefusedError(f"{base} refused request {call} {MOST_TRIES} times")

    async def _read(self, answer: aiohttp.ClientResponse, call: str, sent: float) -> Answered:
        first, words, usage = 0.0, list[str](), dict[str, Any]()
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RefusedError(f"the stream of request {call} broke: {event['error']}")
            usage = event.get("usage") or usage
            said = "".join((choice.get("delta") or {}).get("content") or "" for choice in event.get("choices") or ())
            if said and not first:
                first = time.monotonic()
            words.append(said)
        if not usage or not first:
            raise RefusedError(f"the stream of request {call} has no {'answer' if usage else 'usage'}")
        self.said[call] = "".join(words)
        talk, _, turn = call.partition(".")
        return Answered(
            talk=int(talk),
            turn=int(turn),
            sent_s=sent - self._began,
            ttft_s=first - sent,
            ended_s=time.monotonic() - self._began,
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=_cached(usage),
            answer_tokens=usage["completion_tokens"],
            server=answer.headers.get("x-corral-server") or answer.headers.get("llm_provider-x-corral-server", ""),
        )


def _cached(usage: Mapping[str, Any]) -> int:
    details = usage.get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens") or 0)


@dataclass(frozen=True)
class Summary:
    """What a run came to; times in seconds."""

    answers: int
    ttft_median_s: float
    ttft_p95_s: float
    ttft_mean_s: float
    cached_share: float
    """Of all prompt tokens."""
    prefilled_tokens: int
    moved: int
    """Turns after the first that another server answered than the turn before."""
    failed: int = 0
    ttfts_s: tuple[float, ...] = ()
    """Of all answers, in the order of their sending."""


def summary(answers: Sequence[Answered], failed: int = 0) -> Summary:
    """Return the figures of a run of at least two answers, and of so many requests that failed."""
    waits = [one.ttft_s for one in answers]
    cuts = quantiles(waits, n=20, method="inclusive")
    prompts = sum(one.prompt_tokens for one in answers)
    cached = sum(one.cached_tokens for one in answers)
    homes = {(one.talk, one.turn): one.server for one in answers}
    moved = sum(1 for (talk, turn), home in homes.items() if turn and home != homes[talk, turn - 1])
    mean = sum(waits) / len(waits)
    return Summary(
        len(answers), cuts[9], cuts[18], mean, cached / prompts, prompts - cached, moved, failed, tuple(waits)
    )  # fmt: skip


def new_session() -> aiohttp.ClientSession:
    """Return a session without a limit of connections, whose requests end after a deadline."""
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout, trust_env=False)
