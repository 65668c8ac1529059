"""What clients ask: chats of several turns that share system prompts, one-shot prompts, bursts of them."""

from collections.abc import Callable
from random import Random

from corral_routing.prompts import Prompt
from routing_sim.clock import Clock
from routing_sim.server import Request

Send = Callable[[Request], None]
SYSTEM_PROMPTS = ((0, 200), (1, 600), (2, 1500))
"""Number and tokens of each."""


class Talk:
    """The prompts of one conversation, turn by turn."""

    def __init__(self, random: Random, number: int, system: tuple[int, int] | None) -> None:
        self._random = random
        self._number = number
        self._nodes: list[int] = []
        self._tokens: list[int] = []
        self._chars: list[int] = []
        if system is not None:
            self._add(system[0] + 1, system[1])

    def says(self, tokens: int, answer_tokens: int) -> Request:
        """Return the request of the next turn; its answer is part of the one after."""
        self._add(self._node(), tokens)
        prompt = Prompt(tuple(self._nodes), tuple(self._chars), self._nodes[min(1, len(self._nodes) - 1)])
        request = Request(prompt, tuple(self._tokens), answer_tokens)
        self._add(self._node(), answer_tokens)
        return request

    def _node(self) -> int:
        return (self._number + 1) * 10_000 + len(self._nodes)

    def _add(self, node: int, tokens: int) -> None:
        self._nodes.append(node)
        self._tokens.append(tokens + (self._tokens[-1] if self._tokens else 0))
        chars = round(tokens * self._random.uniform(3.4, 4.6))
        self._chars.append(chars + (self._chars[-1] if self._chars else 0))


def chats(clock: Clock, random: Random, send: Send, *, each_s: float, until: float) -> None:
    """Start a chat every `each_s` seconds on average: 3 to 12 turns, 12 s on average between an answer and the next."""
    number, seed = 0, random.random()

    def start() -> None:
        nonlocal number
        number += 1
        own = Random(f"{seed} {number}")  # so that it says the same whenever it is answered
        _turn(clock, own, send, Talk(own, number, own.choice(SYSTEM_PROMPTS)), own.randint(3, 12))
        if clock.now < until:
            clock.after(random.expovariate(1 / each_s), start)

    clock.after(random.expovariate(1 / each_s), start)


def _turn(clock: Clock, random: Random, send: Send, talk: Talk, left: int) -> None:
    request = talk.says(int(random.lognormvariate(4.6, 0.9)) + 5, int(random.lognormvariate(4.6, 0.6)) + 5)

    def done(_request: Request, answered: bool) -> None:
        if answered and left > 1:
            clock.after(random.expovariate(1 / 12), lambda: _turn(clock, random, send, talk, left - 1))

    request.done = done
    send(request)


def one_shots(
    clock: Clock, random: Random, send: Send, *, each_s: float, until: float, burst: int = 1, shared_tokens: int = 0
) -> None:
    """Send single prompts, `burst` at a time, every `each_s` seconds a prompt on average.

    They share nothing but `shared_tokens` at their beginning, where that is not 0.
    """
    number = 10_000_000
    system = (len(SYSTEM_PROMPTS), shared_tokens) if shared_tokens else None

    def start() -> None:
        nonlocal number
        for _ in range(burst):
            number += 1
            request = Talk(random, number, system).says(
                int(random.lognormvariate(6.0, 0.8)) + 20, int(random.lognormvariate(4.6, 0.6)) + 5
            )
            send(request)
        if clock.now < until:
            clock.after(random.expovariate(1 / (each_s * burst)), start)

    clock.after(random.expovariate(1 / each_s), start)
