"""The conversations of a real run once more, on simulated servers: the same prompts, tokens and pauses."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random

from bench_routing_chats import Answered, Message, Talk

from corral_routing.prompts import Prompt, prompt_of
from routing_sim.clock import Clock
from routing_sim.engine import Card, Host
from routing_sim.gate import Gate
from routing_sim.policies import Ours, Policy, RoundRobin
from routing_sim.server import Request, SimulatedServer

POLICIES = ("round-robin", "corral")
AFTER_S = 600.0


def replayed(
    policy: str,
    given: Sequence[Talk],
    real: Sequence[Answered],
    asked: Mapping[str, Sequence[Message]],
    cards: Mapping[str, Card],
    contention: float,
    *,
    system_tokens: Mapping[str, int],
    seed: int,
) -> list[Answered]:
    """Return the answers that the simulator gives to the conversations of a real run.

    Args:
        policy: one of `POLICIES`.
        given: the conversations.
        real: the answers of the real run, for their tokens.
        asked: what was sent for each request of it.
        cards: the servers' figures.
        contention: of their machine.
        system_tokens: of each system prompt.
        seed: of chance.
    """
    clock = Clock()
    host = Host(contention)
    farm = [SimulatedServer(name, card, clock, host=host) for name, card in cards.items()]
    chooses: Policy = RoundRobin(1) if policy == "round-robin" else Ours(1, farm, clock, Random(seed))
    gate = Gate(chooses, farm, clock, Random(seed), 1)
    told = {(one.talk, one.turn): one for one in real}
    answers: dict[tuple[int, int], Answered] = {}

    def send(talk: Talk, turn: int) -> None:
        messages = asked[f"{talk.number}.{turn}"]
        prompt = prompt_of({}, messages)
        if prompt is None:
            raise ValueError(f"request {talk.number}.{turn} has no messages")
        one = told[talk.number, turn]
        request = Request(prompt, _tokens(prompt, messages, told, talk, turn, system_tokens), one.answer_tokens)

        def done(request: Request, answered: bool) -> None:
            if not answered or request.first_token is None:
                raise RuntimeError(f"the simulator did not answer request {talk.number}.{turn}")
            answers[talk.number, turn] = Answered(
                talk.number, turn, request.arrived, request.first_token - request.arrived, clock.now,
                one.prompt_tokens, request.cached, one.answer_tokens, request.server,
            )  # fmt: skip
            if turn + 1 < len(talk.says):
                clock.after(talk.thinks_s[turn], lambda: send(talk, turn + 1))

        request.done = done
        gate.send(request)

    for talk in given:
        clock.at(talk.begins_s, lambda talk=talk: send(talk, 0))  # type: ignore[misc]
    clock.run(max(one.ended_s for one in real) + AFTER_S)
    return sorted(answers.values(), key=lambda one: one.sent_s)


def _tokens(
    prompt: Prompt,
    messages: Sequence[Message],
    told: Mapping[tuple[int, int], Answered],
    talk: Talk,
    turn: int,
    system_tokens: Mapping[str, int],
) -> tuple[int, ...]:
    """Return the tokens of each prefix: those of whole prompts as the server counted them, answers after theirs."""
    counts, roles = list[int](), defaultdict[str, int](int)
    for message in messages:
        seen = roles[message["role"]]
        roles[message["role"]] += 1
        if message["role"] == "system":
            counts.append(system_tokens[message["content"]])
        elif message["role"] == "user":
            counts.append(told[talk.number, seen].prompt_tokens)
        else:
            before = told[talk.number, seen]
            counts.append(before.prompt_tokens + before.answer_tokens)
    if len(counts) != len(prompt.nodes):
        raise ValueError(f"request {talk.number}.{turn} has a message longer than a block of the router's digests")
    return tuple(counts)
