"""What a choice of the routing hook costs: `make bench-routing-cost`.

CPU time from a request to its choice and to the note of its answer, for conversations of 40 messages that each are
remembered by the server of their last turn, and the memory of the prompt cache model after 100,000 conversations.
"""

import argparse
import json
import sys
import time
import tracemalloc
from pathlib import Path
from random import Random

from corral_routing.prompts import prompt_of
from corral_routing.reports import Load, Status
from corral_routing.router import Router, Usage

MESSAGES = 40
CHOICES = 20
"""Conversations: few enough for two servers to remember them all."""
ROUNDS = 200
REPORT_EVERY_S = 0.6
CONVERSATIONS = 100_000
REPORT = Status("ready", Load(0, 0, 4), 16, 8192, 1, 30.0, 500.0)


def conversation(number: int, messages: int = MESSAGES) -> list[dict[str, str]]:
    """Return a chat of messages of some 300 characters."""
    roles = ("user", "assistant")
    return [{"role": roles[turn % 2], "content": f"message {turn} of {number} " * 15} for turn in range(messages)]


def router_of(servers: int) -> tuple[Router, list[str]]:
    """Return a router that heard of so many idle servers."""
    router = Router(Random(1))
    names = [f"chat-{number + 1}" for number in range(servers)]
    for name in names:
        router.reported(name, REPORT, 0.0, 0.0)
    return router, names


def choice_us(servers: int) -> float:
    """Return the CPU time of a choice in microseconds: the least of many short rounds, as noise only adds.

    Raises:
        SystemExit: A conversation was not remembered, so that something else was measured.
    """
    chats = [conversation(number) for number in range(CHOICES)]
    router, names = router_of(servers)
    rounds, now = list[float](), 1.0
    for turn in range(ROUNDS + 1):
        began, missed = time.process_time(), 0
        for number, chat in enumerate(chats):
            call = f"{turn}-{number}"
            choice = router.pick(call, names, prompt_of({}, chat), now)
            router.ended(call, Usage(3000, 2900, 50, 0.1, 1.0), now)
            missed += choice is None or not choice.chosen.cached_tokens
        rounds.append((time.process_time() - began) / CHOICES * 1e6)
        if turn and missed:
            sys.exit(f"{missed} of {CHOICES} conversations were not remembered by {servers} servers")
        now += REPORT_EVERY_S
        for name in names:
            router.reported(name, REPORT, now, now)
    return min(rounds[1:])  # the first remembers nothing


def memory_mb() -> float:
    """Return the memory that 100,000 conversations take on 8 servers, in MB."""
    router, names = router_of(8)
    tracemalloc.start()
    for number in range(CONVERSATIONS):
        router.pick(str(number), names, prompt_of({}, conversation(number, 3)), 1.0)
        router.ended(str(number), Usage(300, 0, 50, 0.1, 1.0), 1.0)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-memory", action="store_true", help="leave the slow part out")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    figures = {f"choice_us_{servers}_servers": round(choice_us(servers), 1) for servers in (2, 8, 64)}
    if not given.no_memory:
        figures["memory_mb_100000_conversations"] = round(memory_mb(), 1)
    for name, value in figures.items():
        print(f"{name:34} {value:8}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
