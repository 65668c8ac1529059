"""The conversations of the routing benchmark, and what its client makes of answers."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from bench_routing_chats import Answered, Client, Lengths, RefusedError, Talk, new_session, run, summary, talks
from bench_routing_farms import BASE, OURS
from bench_routing_servers import refusal, rows
from bench_routing_workloads import Rounds

END = {
    "choices": [],
    "usage": {"prompt_tokens": 40, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 30}},
}


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def said(word: str) -> bytes:
    return event({"choices": [{"delta": {"content": word}}]})


@asynccontextmanager
async def server(*answers: bytes | int) -> AsyncIterator[tuple[str, list[dict[str, object]]]]:
    """Answer each request with the next of these: a stream, or a status."""
    left, asked = list(answers), list[dict[str, object]]()

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        one = left.pop(0)
        if isinstance(one, int):
            return web.Response(status=one, headers={"retry-after": "0"}, text="made up")
        return web.Response(body=one, headers={"x-corral-server": "chat-1"}, content_type="text/event-stream")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield f"http://127.0.0.1:{port}", asked
    await runner.cleanup()


def test_a_seed_says_the_same_and_a_salt_makes_it_new() -> None:
    one, again, salted = (talks(1, 4, 3, salt=salt, each_s=1, thinks_s=1, shots=2) for salt in ("a", "a", "b"))
    assert one == again
    assert [talk.says for talk in one if talk.system] == [talk.says for talk in salted if talk.system]
    assert not {talk.system for talk in one if talk.system} & {talk.system for talk in salted}
    assert sorted(len(talk.says) for talk in one) == [1, 1, 3, 3, 3, 3]
    assert not {talk.says[0] for talk in one if not talk.system} & {talk.says[0] for talk in salted}


def test_lengths_turns_and_bursts_are_those_asked_for() -> None:
    given = talks(1, 20, (2, 4), salt="a", each_s=1, thinks_s=1, burst=5, lengths=Lengths(says=(3, 6), answers=(7, 9)))
    assert {len(talk.says) for talk in given} == {2, 3, 4}
    assert {len(said.split()) for talk in given for said in talk.says} == {3, 4, 5, 6}
    assert {talk.answer_tokens for talk in given} == {7, 8, 9}
    begins = [talk.begins_s for talk in given]
    assert [begins.count(one) for one in sorted(set(begins))] == [5, 5, 5, 5]


async def test_a_failed_request_ends_its_conversation_alone_where_failures_are_counted() -> None:
    talk, other = (Talk(number, 0.0, "Be brief.", ("One?", "Two?"), (0.0,), 2) for number in (1, 2))
    good = said("Yes") + event(END)
    async with server(500, good, good) as (url, asked), new_session() as session:
        client, failed = Client(session, "key"), list[str]()
        answers = await run([talk, other], lambda *turn: client.ask(url, *turn), client.said.__getitem__, failed)
    assert len(asked) == 3
    assert len({one.talk for one in answers}) == 1
    assert ["500: made up" in one for one in failed] == [True]


def test_what_a_router_refused_is_told_and_other_errors_are_not_swallowed() -> None:
    refused = RefusedError("it answered 500")
    assert refusal(refused) is refused
    assert refusal(ExceptionGroup("a", [ExceptionGroup("b", [refused])])) is refused
    assert refusal(ExceptionGroup("a", [refused, KeyError("x")])) is None


def test_the_table_holds_each_router_against_least_busy_in_the_same_round() -> None:
    def rounds(router: str, *waits: float) -> Rounds:
        answers = [[Answered(0, turn, 0, wait, 9, 100, 50, 5, "a") for turn in (0, 1)] for wait in waits]
        return Rounds(8, "simulated", "chats", router, tuple(summary(one, failed=1) for one in answers))

    _, _, base, ours = rows([rounds(BASE, 1.0, 4.0, 2.0), rounds(OURS, 0.5, 1.0, 1.5)])
    assert base == f"| 8 simulated | chats | {BASE} | 2.00 s | 4.00 s | 1.00 to 4.00 s | 1.00 | 50% | 1.00 | 0 | 3 |"
    assert ours == f"| 8 simulated | chats | {OURS} | 1.00 s | 1.50 s | 0.50 to 1.50 s | 0.50 | 50% | 1.00 | 0 | 3 |"


async def test_turns_carry_the_answers_before_them_and_refusals_are_waited_out() -> None:
    talk = Talk(3, 0.0, "Be brief.", ("One?", "Two?"), (0.0,), 2)
    async with server(429, said("Yes") + event(END), said("No") + event(END)) as (url, asked), new_session() as session:
        client = Client(session, "key")
        answers = await run([talk], lambda *turn: client.ask(url, *turn), client.said.__getitem__)
    assert client.refused == 1
    assert [(one.talk, one.turn, one.prompt_tokens, one.cached_tokens, one.server) for one in answers] == [
        (3, 0, 40, 30, "chat-1"),
        (3, 1, 40, 30, "chat-1"),
    ]
    assert [message["content"] for message in asked[-1]["messages"]] == ["Be brief.", "One?", "Yes", "Two?"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("answer", "why"),
    [(500, "500: made up"), (said("x"), "no usage"), (event(END), "no answer"), (event({"error": {}}), "broke")],
)
async def test_what_is_no_answer_is_told(answer: bytes | int, why: str) -> None:
    async with server(answer) as (url, _), new_session() as session:
        with pytest.raises(RefusedError, match=why):
            await Client(session, "").ask(url, "0.0", [{"role": "user", "content": "?"}], 2)


def test_a_summary_counts_moves_between_turns_only() -> None:
    homes = {(0, 0): "a", (0, 1): "a", (0, 2): "b", (1, 0): "b"}
    answers = [
        Answered(talk, turn, 0.0, 1.0 + turn, 9.0, 100, 50 * (turn > 0), 5, home)
        for (talk, turn), home in homes.items()
    ]
    found = summary(answers)
    assert (found.answers, found.moved, found.prefilled_tokens) == (4, 1, 300)
    assert found.cached_share == 0.25
    assert found.ttft_mean_s == 1.75
