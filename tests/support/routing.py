"""Servers and conversations for the tests of the routing hook."""

from collections.abc import Sequence
from random import Random

from corral_routing.prompts import Prompt, prompt_of
from corral_routing.reports import Load, Status
from corral_routing.router import Router, Usage

SYSTEM = "You are a helpful assistant. " * 20


def status(
    busy: int = 0,
    queued: int = 0,
    slots: int = 4,
    *,
    state: str = "ready",
    max_queue: int = 8,
    context: int = 4096,
    generation: int = 1,
    prefill_rate: float | None = 1000.0,
    decode_rate: float | None = 50.0,
) -> Status:
    """Return the report of a server that is idle, unless told otherwise."""
    return Status(state, Load(busy, queued, slots), max_queue, context, generation, decode_rate, prefill_rate)


def chat(name: str, turns: int = 1, words: int = 400) -> list[dict[str, str]]:
    """Return a conversation of so many turns that shares its system prompt with all others."""
    messages = [{"role": "system", "content": SYSTEM}]
    for turn in range(turns):
        if turn:
            messages.append({"role": "assistant", "content": f"answer {turn} to {name} " * 10})
        messages.append({"role": "user", "content": f"{name} asks {turn} " * words})
    return messages


def prompt(messages: Sequence[dict[str, str]]) -> Prompt:
    """Return the chain of a conversation."""
    found = prompt_of({}, messages)
    assert found is not None
    return found


class Farm:
    """A router over servers of which all reports arrive; `now` is moved by the test."""

    def __init__(self, servers: int = 3, seed: int = 1, **figures: object) -> None:
        self.router = Router(Random(seed))
        self.names = [f"chat-{number + 1}" for number in range(servers)]
        self.now = 100.0
        self._calls = 0
        for name in self.names:
            self.report(name, status(**figures))  # type: ignore[arg-type]

    def report(self, name: str, told: Status) -> None:
        """Let a server report now."""
        self.router.reported(name, told, self.now, self.now)

    def ask(self, messages: Sequence[dict[str, str]] | None = None, *, among: Sequence[str] = ()) -> tuple[str, str]:
        """Send a request; return its name and the server chosen."""
        self._calls += 1
        call = f"call-{self._calls}"
        choice = self.router.pick(call, among or self.names, prompt(messages) if messages else None, self.now)
        assert choice is not None
        return call, choice.chosen.name

    def answer(self, call: str, cached: int | None = None, took_s: float = 1.0) -> None:
        """Let a request be answered in `took_s`."""
        pick = self.router.picks[call]
        self.now += took_s
        tokens = pick.prompt.chars[-1] // 4 if pick.prompt else None
        self.router.ended(call, Usage(tokens, cached, 50, 0.1, took_s), self.now)

    def turn(self, messages: Sequence[dict[str, str]]) -> str:
        """Send a request and let it be answered; return the server."""
        call, server = self.ask(messages)
        self.answer(call)
        return server
