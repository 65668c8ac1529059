"""What a choice of the routing hook costs: `make bench-routing-cost`.

CPU time from a request to its choice and to the note of its answer, for conversations of 40 messages that are
remembered, and the memory of the prompt cache model after 100,000 conversations.
"""

import argparse
import json
import time
import tracemalloc
from pathlib import Path
from random import Random

from corral_routing.prompts import prompt_of
from corral_routing.reports import Load, Status
from corral_routing.router import Router, Usage

MESSAGES = 40
CHOICES = 400
ROUNDS = 7
CONVERSATIONS = 100_000


def conversation(number: int, messages: int = MESSAGES) -> list[dict[str, str]]:
    """Return a chat of messages of some 300 characters."""
    roles = ("user", "assistant")
    return [{"role": roles[turn % 2], "content": f"message {turn} of {number} " * 15} for turn in range(messages)]


def router_of(servers: int) -> tuple[Router, list[str]]:
    """Return a router that heard of so many idle servers."""
    router = Router(Random(1))
    names = [f"chat-{number + 1}" for number in range(servers)]
    for name in names:
        router.reported(name, Status("ready", Load(0, 0, 4), 16, 8192, 1, 30.0, 500.0), 0.0, 0.0)
    return router, names


def choice_us(servers: int) -> float:
    """Return the CPU time of a choice in microseconds: the least of several rounds, as noise only adds."""
    chats = [conversation(number) for number in range(CHOICES)]
    router, names = router_of(servers)
    rounds = []
    for turn in range(ROUNDS):
        began = time.process_time()
        for number, chat in enumerate(chats):
            call = f"{turn}-{number}"
            router.pick(call, names, prompt_of({}, chat), 1.0)
            router.ended(call, Usage(3000, 2900, 50, 0.1, 1.0), 1.0)
        rounds.append((time.process_time() - began) / CHOICES * 1e6)
    return min(rounds)


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
