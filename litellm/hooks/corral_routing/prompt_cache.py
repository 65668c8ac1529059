"""What one server is believed to remember: the prompts it processed, least recently used first out.

llama-server keeps whole prompts, in slots and in host memory (`--cache-ram`), and does not share a beginning between
two of them; so a prompt is what is kept and forgotten here too, and counts with all its tokens. A prompt that goes on
from one kept takes its place, as it does in its slot. While a slot works on a prompt, no other can begin with it: it
counts for others once it is over, and only for its own next turn before that, should its end not have been told.

A prompt that shares a beginning with another one is given its place: llama-server overwrites what that one has beyond
it, unless that is more than half, which it would save first.

How many tokens a server holds is not told by it: slots x context, and what fits into its `cache_ram_mib`, which depends
on the model. The model starts from a guess and learns from answers: a prompt that was believed kept and was processed
anew had been pushed out by the tokens that came since. Without host memory there is nothing beside the slots to learn.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from corral_routing.prompts import Prompt
from corral_routing.returns import Returns

HOST_MEMORY_FACTOR = 3
"""Tokens believed to lie in host memory for each token of context, until answers tell otherwise."""
MOST_FACTOR = 32
"""The same, however well it goes."""
MISS = 0.25
"""An answer with less of the expected tokens cached than this share found its prompt pushed out."""
LEAST_EXPECTED = 128
"""Tokens: of fewer, nothing is concluded."""


@dataclass(slots=True)
class Kept:
    """A prompt that a server has.

    Args:
        nodes: of the prompt.
        tokens: of it, and of its answer once that is known.
        used: the server's processed tokens when it was last used.
        rests_since: when its slot was done with it.
        answered: whether its answer belongs to it.
    """

    nodes: tuple[int, ...]
    tokens: int
    used: int
    rests_since: float
    answered: bool = False


class Match(NamedTuple):
    """How much of a prompt is kept: the number of its nodes, their characters, tokens processed since it was used.

    `beside` is the other prompt that has this beginning, whose place this one would take.
    """

    depth: int
    chars: int
    distance: int
    beside: Kept | None = None


NOTHING = Match(0, 0, 0)


class PromptCache:
    """One server's prompts. Bounded in tokens and in nodes; nothing here is text."""

    def __init__(self, context_tokens: int, most_nodes: int, returns: Returns) -> None:
        """Start empty.

        Args:
            context_tokens: slots x context, what it holds at least.
            most_nodes: how many digests are kept at most, however short the prompts.
            returns: is told which prompts are gone on from.
        """
        self._least = context_tokens
        self.budget = context_tokens * (1 + HOST_MEMORY_FACTOR)
        self.tokens = 0
        self._most_nodes = most_nodes
        self._returns = returns
        self._host_mib: int | None = None
        self._nodes = 0
        self._processed = 0
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._busy: set[int] = set()  # last nodes of prompts that slots work on
        self._prefixes: dict[int, list[int]] = {}  # node -> [other prompts that pass through it, the last of them]

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nodes(self) -> int:
        """Digests held, shared ones once."""
        return len(self._prefixes)

    def resize(self, context_tokens: int, cache_ram_mib: int | None = None) -> None:
        """Take note of another slots x context, or of other host memory: 0 for none, None for not known."""
        if context_tokens == self._least and cache_ram_mib == self._host_mib:
            return
        if cache_ram_mib == 0:
            self.budget = context_tokens
        elif self._host_mib == 0:
            self.budget = context_tokens * (1 + HOST_MEMORY_FACTOR)
        else:
            self.budget = max(context_tokens, self.budget * context_tokens // self._least)
        self._least, self._host_mib = context_tokens, cache_ram_mib
        self._trim()

    def clear(self) -> None:
        """Forget all: the server was started anew."""
        self._kept.clear()
        self._prefixes.clear()
        self._busy.clear()
        self.tokens = self._nodes = 0

    def match(self, prompt: Prompt) -> Match:
        """Return the longest beginning of a prompt that is kept."""
        depth = 0
        prefixes, nodes = self._prefixes, prompt.nodes
        for node in nodes:
            if node not in prefixes:
                break
            depth += 1
        if self._busy and not self._busy.isdisjoint(nodes):  # its own earlier turn
            depth = max(depth, *(at for at, node in enumerate(nodes, 1) if node in self._busy))
        if not depth:
            return NOTHING
        node = nodes[depth - 1]
        last = self._kept.get(prefixes[node][1] if node in prefixes else node)
        distance = self._processed - last.used if last else 0
        whole = self._kept.get(node)
        if whole is None:
            return Match(depth, prompt.chars[depth - 1], distance, last)
        if whole.answered and depth < len(nodes):
            depth += 1  # the answer, sent back as the next message, was generated there
        return Match(depth, prompt.chars[depth - 1], distance)

    def add(self, prompt: Prompt, tokens: int, now: float) -> None:
        """Note that the server processes a prompt of so many tokens now."""
        nodes, kept = prompt.nodes, self._kept
        for node in reversed(nodes):
            if node in kept:
                if kept[node].answered:
                    self._returns.continued(now - kept[node].rests_since)
                self._drop(node)
                break
        leaf = nodes[-1]
        self._processed += tokens
        kept[leaf] = Kept(nodes, tokens, self._processed, now)
        self._busy.add(leaf)
        self.tokens += tokens
        self._nodes += len(nodes)
        self._trim()

    def over(self, prompt: Prompt, now: float) -> None:
        """Note that no slot works on a prompt any more: others can begin with what it has."""
        leaf = prompt.nodes[-1]
        kept = self._kept.get(leaf)
        if kept is None or leaf not in self._busy:
            return
        self._busy.discard(leaf)
        kept.rests_since = now
        for node in kept.nodes:
            entry = self._prefixes.get(node)
            if entry is None:
                self._prefixes[node] = [1, leaf]
            else:
                entry[0] += 1
                entry[1] = leaf

    def answered(self, prompt: Prompt, tokens: int, now: float) -> None:
        """Note the tokens that a prompt and its answer have, now that it was answered."""
        self.over(prompt, now)
        self._returns.answered()
        kept = self._kept.get(prompt.nodes[-1])
        if kept is not None:
            self.tokens += tokens - kept.tokens
            self._processed += max(0, tokens - kept.tokens)
            kept.tokens, kept.answered = tokens, True
            self._trim()

    def forget(self, prompt: Prompt) -> None:
        """Note that a prompt was not processed after all."""
        if prompt.nodes[-1] in self._kept:
            self._drop(prompt.nodes[-1])

    def learn(self, expected_tokens: int, found_tokens: int, distance: int) -> None:
        """Correct the budget by what an answer found cached, `distance` tokens after it was believed put there."""
        if expected_tokens < LEAST_EXPECTED:
            return
        if found_tokens < MISS * expected_tokens:
            if self._least < distance < self.budget:
                self.budget = max(self._least, distance * 9 // 10)
                self._trim()
        elif self._host_mib != 0 and distance > self.budget * 8 // 10:
            self.budget = min(self.budget * 21 // 20, self._least * MOST_FACTOR)

    def _drop(self, leaf: int) -> None:
        kept = self._kept.pop(leaf)
        self.tokens -= kept.tokens
        self._nodes -= len(kept.nodes)
        if leaf in self._busy:
            self._busy.discard(leaf)
            return
        for node in kept.nodes:
            entry = self._prefixes[node]
            entry[0] -= 1
            if not entry[0]:
                del self._prefixes[node]

    def _trim(self) -> None:
        while len(self._kept) > 1 and (self.tokens > self.budget or self._nodes > self._most_nodes):
            self._drop(next(iter(self._kept)))
