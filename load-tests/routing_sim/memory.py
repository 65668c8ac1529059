"""What llama-server remembers: a prompt in each slot, and those it moved to host memory (`--cache-ram`).

The rules are those of its `get_available_slot` and `server_prompt_cache` (tools/server, b10434): a request takes the
idle slot whose prompt it shares most with, if that is a tenth of it, else the one that rested longest. Where less than
half of the slot's prompt would survive, that is saved to host memory first, and a saved prompt that shares more, and
loses less, is taken from there. A prompt in a slot that works serves nobody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from corral_routing.prompts import Prompt

SLOT_SIMILARITY = 0.1
"""`--slot-prompt-similarity`."""
SAVED_BELOW = 0.5
LEAST_KEPT = 0.25
"""A saved prompt of which less would survive is left where it is."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A prompt with its answer: digests of its prefixes, the tokens of each, and of all with the answer."""

    nodes: tuple[int, ...]
    tokens: tuple[int, ...]
    total: int

    def shared(self, nodes: Sequence[int], tokens: Sequence[int]) -> int:
        """Return the tokens that another prompt begins with alike."""
        depth = 0
        for mine, its in zip(self.nodes, nodes, strict=False):
            if mine != its:
                break
            depth += 1
        if depth == len(self.nodes) and depth < len(tokens):
            return min(self.total, tokens[depth])  # the answer, sent back as the next message, was generated there
        return tokens[depth - 1] if depth else 0


@dataclass(slots=True)
class Slot:
    """A slot; `rested` counts up with each use."""

    kept: Kept | None = None
    busy: bool = False
    rested: int = 0


class Memory:
    """One server's slots and host memory."""

    def __init__(self, slots: int, host_tokens: int) -> None:
        """Start empty.

        Args:
            slots: at least one.
            host_tokens: what fits in host memory.
        """
        self._slots = [Slot() for _ in range(slots)]
        self._host: list[Kept] = []
        self._host_tokens = host_tokens
        self._uses = 0

    def begin(self, prompt: Prompt, tokens: Sequence[int]) -> tuple[Slot, int]:
        """Give a prompt one of the idle slots, of which there must be one; return it and the tokens it finds there."""
        idle = [slot for slot in self._slots if not slot.busy]
        best = max(idle, key=lambda slot: _shared(slot.kept, prompt, tokens))
        lcp = _shared(best.kept, prompt, tokens)
        if lcp > SLOT_SIMILARITY * tokens[-1]:
            slot, saves = best, best.kept is not None and lcp < SAVED_BELOW * best.kept.total
        else:
            slot, saves = min(idle, key=lambda slot: slot.rested), True
        if saves:
            self._swap(slot, prompt, tokens)
        cached = min(_shared(slot.kept, prompt, tokens), tokens[-1] - 1)
        slot.busy, slot.kept = True, None
        return slot, cached

    def end(self, slot: Slot, prompt: Prompt, tokens: Sequence[int], answer_tokens: int) -> None:
        """Leave a prompt and its answer in its slot."""
        self._uses += 1
        slot.kept = Kept(prompt.nodes, tuple(tokens), tokens[-1] + answer_tokens)
        slot.busy, slot.rested = False, self._uses

    def _swap(self, slot: Slot, prompt: Prompt, tokens: Sequence[int]) -> None:
        if slot.kept is not None:
            self._host.append(slot.kept)
        lcp = _shared(slot.kept, prompt, tokens)
        keeps = lcp / slot.kept.total if slot.kept else -1.0
        found = None
        for one in self._host:
            its = one.shared(prompt.nodes, tokens)
            if its / one.total >= LEAST_KEPT and its / one.total > keeps and its > lcp:
                found, keeps, lcp = one, its / one.total, its
        if found is not None:
            self._host.remove(found)
            slot.kept = found
        while sum(one.total for one in self._host) > self._host_tokens:
            del self._host[0]


def _shared(kept: Kept | None, prompt: Prompt, tokens: Sequence[int]) -> int:
    return kept.shared(prompt.nodes, tokens) if kept else 0
