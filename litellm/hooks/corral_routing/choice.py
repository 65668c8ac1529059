"""Which server will answer first. Pure: what is known comes in, the choice and its reasons go out.

The expected time to the first token at a server, in seconds, and what taking the request costs besides:

    estimate = WAITING x wait + prefill + sharing + loss

    wait     max(0, requests - slots + 1) x holding / slots       in line until a slot is free
    prefill  (uncached + ahead) x per_token                       the prompt's tokens that it does not remember, after
                                                                  those of others: llama-server fills its batches slot
                                                                  by slot
    sharing  SHARING x min(requests, slots - 1) x DECODE_TOKENS x per_answer_token
                                                                  each further stream slows all: 0.3 is what 1, 2 and 4
                                                                  streams of SmolLM2 showed (89, 137, 184 tokens/s)
    loss     lost x per_token                                     what it would have to read anew, should the
                                                                  conversation come back whose place this one takes

| input            | source                                                                                        |
|------------------|-----------------------------------------------------------------------------------------------|
| requests, slots  | the server's last report (`/status`, `x-corral-*`), corrected by this process's own requests  |
| holding          | mean time that a request holds a slot, from answers: see `holding`                            |
| uncached         | characters of messages not in the prompt cache model x tokens a character, from answers       |
| lost             | tokens that the prompt overwrites of another one that begins alike x the chance that this one  |
|                  | comes back: see `prompt_cache`, `returns`                                                     |
| ahead            | uncached tokens of this process's requests whose answers have not begun                       |
| per_token, per_answer_token | 1 / `prompt_tokens_per_second`, 1 / `tokens_per_second` of `/status`               |

What is not known of a server is taken from the others: the mean of their requests where its report is old (so that it
is neither best nor worst), the median of their speeds where it measured none.

A prefix that many prompts share is wanted on a second server before its first one queues: where the servers that hold
it have one slot left at most, processing it elsewhere serves the prompts to come as well, and so counts only with this
prompt's share of it.

A second in line counts as WAITING: whoever is in line holds up those who come after, where a slower server with a free
slot would hold up nobody.

Estimates closer than NEAR_S or NEAR_SHARE are the same. Of those, the ones with the least sharing write the whole
answer soonest; between these, chance decides. For a prompt that none of them remembers the chance is drawn from the
digest of its beginning, so that two workers draw the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from random import Random
from statistics import median
from typing import NamedTuple

from corral_routing.holding import SHARING
from corral_routing.prompts import Prompt
from corral_routing.servers import PREFILL_RATE

WAITING = 2.0
"""On simulated farms of uneven servers 1.5 to 3 give sooner first tokens than 1, and 2 the best median and p95."""
DECODE_TOKENS = 16
NEAR_S = 0.01
NEAR_SHARE = 0.05
DECODE_RATE = 30.0
"""Tokens/s of answers, where no server has measured any."""


class Reason(Enum):
    """Why a server was chosen: the label `reason` of the metrics."""

    ONLY = "only"
    CACHE = "cache"
    SPREAD = "spread"
    LOAD = "load"
    TIE = "tie"


class Candidate(NamedTuple):
    """A server that may be chosen.

    Args:
        name: of the server.
        requests: in its slots and its line.
        confidence: 0 to 1, how much `requests` can be relied on.
        slots: of the server; 0: not known.
        holding_s: how long a request holds a slot.
        prefill_rate: tokens/s of prompts, None if it measured none.
        decode_rate: tokens/s of answers, None likewise.
        ahead_tokens: uncached tokens sent to it whose answers have not begun.
        cached_tokens: of this prompt, those it is believed to remember.
        lost_tokens: of other prompts, those it is likely to read anew if it takes this one.
    """

    name: str
    requests: float
    confidence: float
    slots: int
    holding_s: float
    prefill_rate: float | None
    decode_rate: float | None
    ahead_tokens: float
    cached_tokens: float
    lost_tokens: float = 0.0


class Estimate(NamedTuple):
    """What a candidate would cost; seconds, and tokens of this prompt."""

    name: str
    wait_s: float
    prefill_s: float
    sharing_s: float
    loss_s: float
    cached_tokens: float
    uncached_tokens: float
    total_s: float
    """What the choice compares."""

    @property
    def first_token_s(self) -> float:
        """The expected time to the first token."""
        return self.wait_s + self.prefill_s


@dataclass(frozen=True, slots=True)
class Choice:
    """The server chosen, why, and what each candidate would have cost."""

    chosen: Estimate
    reason: Reason
    estimates: tuple[Estimate, ...]


def choose(
    candidates: Sequence[Candidate], prompt_tokens: float, heat: float, prompt: Prompt | None, random: Random
) -> Choice:
    """Return the candidate with the smallest estimate.

    Args:
        candidates: at least one.
        prompt_tokens: of the whole prompt; 0 where prompts are not remembered (embeddings).
        heat: how many other prompts shared the cached beginning lately.
        prompt: its chain, if it has one.
        random: decides between the near-equal.
    """
    estimates = _estimates(candidates, prompt_tokens, heat)
    if len(estimates) == 1:
        return Choice(estimates[0], Reason.ONLY, estimates)
    least = min(estimate.total_s for estimate in estimates)
    near = [one for one in estimates if one.total_s <= least + max(NEAR_S, NEAR_SHARE * least)]
    if len(near) > 1:
        least_sharing_s = min([one.sharing_s for one in near])
        near = [one for one in near if one.sharing_s == least_sharing_s]
    most_cached = max(one.cached_tokens for one in estimates)
    if len(near) == 1:
        chosen = near[0]
    elif prompt is not None and not any(one.cached_tokens for one in near):
        chosen = max(near, key=lambda one: _draw(prompt.anchor, one.name))
    else:
        chosen = random.choice(near)
    return Choice(chosen, _reason(chosen, most_cached, len(near)), estimates)


def _reason(chosen: Estimate, most_cached: float, near: int) -> Reason:
    if most_cached and chosen.cached_tokens >= most_cached * 0.9:
        return Reason.CACHE
    if most_cached:
        return Reason.SPREAD
    return Reason.TIE if near > 1 else Reason.LOAD


def _estimates(candidates: Sequence[Candidate], prompt_tokens: float, heat: float) -> tuple[Estimate, ...]:
    requests = _requests(candidates)
    slots = _known([one.slots for one in candidates], 1)
    prefill_rates = _known([one.prefill_rate for one in candidates], PREFILL_RATE)
    decode_rates = _known([one.decode_rate for one in candidates], DECODE_RATE)
    most_cached = max([one.cached_tokens for one in candidates])
    spared = 0.0
    if heat > 0 and most_cached:
        held = zip(candidates, requests, slots, strict=True)
        if all(its >= room - 1 for one, its, room in held if one.cached_tokens >= most_cached * 0.9):
            spared = heat / (1 + heat)
    estimates = []
    for one, its, room, prefill_rate, decode_rate in zip(
        candidates, requests, slots, prefill_rates, decode_rates, strict=True
    ):
        cached = one.cached_tokens
        uncached = prompt_tokens - cached if prompt_tokens > cached else 0.0
        wait_s = (its - room + 1) * one.holding_s / room if its > room - 1 else 0.0
        prefill_s = (uncached - (most_cached - cached) * spared + one.ahead_tokens) / prefill_rate
        sharing_s = SHARING * min(its, room - 1) * DECODE_TOKENS / decode_rate
        loss_s = one.lost_tokens / prefill_rate
        total_s = WAITING * wait_s + prefill_s + sharing_s + loss_s
        estimates.append(Estimate(one.name, wait_s, prefill_s, sharing_s, loss_s, cached, uncached, total_s))
    return tuple(estimates)


def _requests(candidates: Sequence[Candidate]) -> list[float]:
    """Return the requests of each, with at least the mean where nothing is known any more."""
    confidences = [one.confidence for one in candidates]
    requests = [one.requests for one in candidates]
    if min(confidences) == 1.0:
        return requests
    weight = sum(confidences)
    mean = sum([sure * its for sure, its in zip(confidences, requests, strict=True)]) / weight if weight else 0.0
    return [sure * its + (1 - sure) * max(mean, its) for sure, its in zip(confidences, requests, strict=True)]


def _known(figures: Sequence[float | None], otherwise: float) -> Sequence[float]:
    """Return the figures, with the median of those known for the others."""
    known = [figure for figure in figures if figure]
    if len(known) == len(figures):
        return known
    usual = median(known) if known else otherwise
    return [figure or usual for figure in figures]


def _draw(anchor: int, name: str) -> bytes:
    """Return the lot of a server for a prompt (rendezvous hashing): alike in every process, even over servers."""
    return blake2b(name.encode("utf-8", "surrogatepass"), key=anchor.to_bytes(8, "big"), digest_size=8).digest()
