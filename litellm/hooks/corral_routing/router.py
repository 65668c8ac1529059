"""The router: takes what is reported and answered, and says for each request where it goes.

Knows nothing of LiteLLM and of networks; the clock is passed in. The hook drives it, and so does the simulator
(load-tests/routing_sim).
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from corral_routing.choice import Candidate, Choice, choose
from corral_routing.prompt_cache import NOTHING, Kept, Match, PromptCache
from corral_routing.prompts import Prompt
from corral_routing.reports import Load, Status
from corral_routing.returns import Returns
from corral_routing.servers import Server, Standing

MOST_NODES = 100_000
"""Digests kept for all servers together, about 25 MB."""
MOST_PICKS = 20_000
MOST_HEAT = 4096
HEAT_HALVES_S = 30.0
CHARS_PER_TOKEN = 4.0
CONTEXT_TOKENS = 8192
"""slots x context of a server that has not told."""
SMOOTHING = 0.1
SLOT_SIMILARITY = 0.1
"""llama-server's `--slot-prompt-similarity`: with less in common a prompt takes the slot that rested longest."""


class FullError(Exception):
    """All servers would refuse the request; a place is likely free in `retry_after_s`."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("every server is full")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost; None is what it did not tell."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    answer_tokens: int | None = None
    first_token_s: float | None = None
    took_s: float | None = None


@dataclass(slots=True)
class Pick:
    """A request under way."""

    server: str
    at: float
    choice: Choice
    prompt: Prompt | None
    expected_cached: float
    distance: int
    first_token_s: float | None = None


class Router:
    """All that one process believes of the servers, and its choices."""

    def __init__(self, random: Random) -> None:
        self.servers: dict[str, Server] = {}
        self.caches: dict[str, PromptCache] = {}
        self.picks: OrderedDict[str, Pick] = OrderedDict()
        self.chars_per_token = CHARS_PER_TOKEN
        self.returns = Returns()
        self._random = random
        self._heat: OrderedDict[int, tuple[float, float]] = OrderedDict()
        self._heard: OrderedDict[str, Prompt] = OrderedDict()

    def server(self, name: str) -> Server:
        """Return the state of a server, new if it was not known."""
        known = self.servers.get(name)
        if known is not None:
            return known
        server = self.servers[name] = Server(name)
        self.caches[name] = PromptCache(CONTEXT_TOKENS, max(1000, MOST_NODES // len(self.servers)), self.returns)
        return server

    def keep(self, names: set[str]) -> None:
        """Forget the servers that are not among these."""
        for name in self.servers.keys() - names:
            del self.servers[name], self.caches[name]

    def pick(self, call: str, names: Sequence[str], prompt: Prompt | None, now: float) -> Choice | None:
        """Choose a server for a request and note that it goes there; None if none can take it, and any may be tried.

        Args:
            call: names the request; a further pick for it replaces the one before.
            names: the servers that could serve it.
            prompt: its chain; None where servers remember nothing (embeddings, reranking, transcription).
            now: the clock.

        Raises:
            FullError: Each server that could serve it is known to be full.
        """
        able = self._able(names, now)
        if not able:
            return None
        rooms = [server for server in able if not server.is_full(now)]
        if not rooms:
            raise FullError(self._retry_after_s(able))
        tokens = heat = 0.0
        if prompt is None:
            matches = [NOTHING] * len(rooms)
        else:
            matches = [self.caches[server.name].match(prompt) for server in rooms]
            tokens = prompt.chars[-1] / self.chars_per_token
            heat = self._heated(prompt, max([match.depth for match in matches]), now)
        candidates = [self._candidate(server, match, tokens, now) for server, match in zip(rooms, matches, strict=True)]
        choice = choose(candidates, tokens, heat, prompt, self._random)
        at = next(at for at, server in enumerate(rooms) if server.name == choice.chosen.name)
        self._note(call, choice, prompt, matches[at], now)
        return choice

    def heard(self, call: str, name: str, prompt: Prompt, now: float) -> None:
        """Take from another worker that it sends a prompt to a server."""
        if name not in self.caches:
            return
        cache = self.caches[name]
        uncached = prompt.chars[-1] - cache.match(prompt).chars
        self.servers[name].sent(call, now, uncached / self.chars_per_token, by_other=True)
        tokens = round(prompt.chars[-1] / self.chars_per_token)
        cache.add(prompt, tokens, now)
        self._heard[call] = prompt
        while len(self._heard) > MOST_PICKS:
            self._heard.popitem(last=False)

    def heard_end(self, call: str, name: str, now: float, *, answered: bool) -> None:
        """Take from another worker that its request to a server is over."""
        if name in self.servers:
            end = self.servers[name].ended if answered else self.servers[name].left
            end(call, now)
            prompt = self._heard.pop(call, None) if answered else self._heard.get(call)  # how it ended may come later
            if prompt is not None and answered:
                self.caches[name].answered(prompt, round(prompt.chars[-1] / self.chars_per_token), now)
            elif prompt is not None:
                self.caches[name].over(prompt, now)

    def unheard(self, call: str, name: str, prompt: Prompt, now: float) -> None:
        """Take from another worker that a server did not process a prompt after all."""
        if name in self.caches:
            self.servers[name].left(call, now)
            self.caches[name].forget(prompt)
            self._heard.pop(call, None)

    def began(self, call: str, load: Load | None, now: float) -> None:
        """Note that an answer began, with the load its headers told."""
        pick = self.picks.get(call)
        if pick is not None and pick.server in self.servers:
            self.servers[pick.server].began(call, load, now)
            if pick.first_token_s is None:
                pick.first_token_s = now - pick.at

    def ended(self, call: str, usage: Usage, now: float) -> Pick | None:
        """Note that a request was answered; return its pick, if it was made here."""
        pick = self.picks.pop(call, None)
        if pick is None or pick.server not in self.servers:
            return None
        self.servers[pick.server].ended(call, now, usage.took_s, pick.choice.chosen.wait_s)
        if pick.prompt is not None and usage.prompt_tokens:
            cache = self.caches[pick.server]
            chars_per_token = pick.prompt.chars[-1] / usage.prompt_tokens
            if 0.25 < chars_per_token < 16:
                self.chars_per_token += SMOOTHING * (chars_per_token - self.chars_per_token)
            cache.answered(pick.prompt, usage.prompt_tokens + (usage.answer_tokens or 0), now)
            if usage.cached_tokens is not None:
                cache.learn(round(pick.expected_cached), usage.cached_tokens, pick.distance)
        return pick

    def over(self, call: str, now: float) -> Pick | None:
        """Note that a request holds its slot no more; what came of it is told later. Returns its pick, if made here."""
        pick = self.picks.get(call)
        if pick is None or pick.server not in self.servers:
            return None
        self.servers[pick.server].left(call, now)
        self._over(pick, now)
        return pick

    def left(self, call: str, now: float) -> Pick | None:
        """Note that a request is over by its sender's doing; return its pick, if it was made here."""
        pick = self.picks.pop(call, None)
        if pick is None or pick.server not in self.servers:
            return None
        self.servers[pick.server].left(call, now)
        self._over(pick, now)
        return pick

    def failed(self, call: str, now: float, *, full: bool) -> Pick | None:
        """Note that a server failed a request, or (`full`) had no room for it; return its pick, if it was made here."""
        pick = self.picks.pop(call, None)
        if pick is None or pick.server not in self.servers:
            return None
        server = self.servers[pick.server]
        if pick.prompt is not None:
            self.caches[pick.server].forget(pick.prompt)
        if full:
            server.refused(call, now)
        else:
            server.failed(call, pick.at, now)
        return pick

    def reported(self, name: str, status: Status, asked: float, now: float) -> None:
        """Take a server's `/status`, asked for at `asked`."""
        server = self.server(name)
        if server.reported(status, asked, now):
            self.caches[name].clear()
        self.caches[name].resize(status.load.slots * status.context, status.cache_ram_mib)

    def _over(self, pick: Pick, now: float) -> None:
        if pick.prompt is not None:
            self.caches[pick.server].over(pick.prompt, now)

    def _able(self, names: Sequence[str], now: float) -> list[Server]:
        servers, recovering, out = [self.server(name) for name in names], Standing.RECOVERING, Standing.OUT
        standings = [server.standing(now) for server in servers]
        if recovering not in standings and out not in standings:
            return servers
        able = [one for one, its in zip(servers, standings, strict=True) if its is not recovering and its is not out]
        if able:
            return able
        # These hold a request until they are back.
        return [one for one, its in zip(servers, standings, strict=True) if its is recovering]

    def _candidate(self, server: Server, match: Match, tokens: float, now: float) -> Candidate:
        status, load = server.status, server.load
        cached = match.chars / self.chars_per_token
        return Candidate(  # by place: names would cost a tenth of the whole choice
            server.name,
            server.requests(),
            server.confidence(now),
            load.slots if load else 0,
            server.holding_s,
            status.prefill_rate if status else None,
            status.decode_rate if status else None,
            server.prefill_ahead(now),
            cached,
            self._lost(match.beside, cached, tokens, now) if match.beside else 0.0,
        )

    def _lost(self, beside: Kept, cached: float, tokens: float, now: float) -> float:
        """Return the tokens that are likely to be read anew as a prompt takes the place of one that begins alike."""
        overwritten = beside.tokens - cached
        if not 0 < overwritten <= cached or cached < SLOT_SIMILARITY * tokens:
            return 0.0
        return overwritten * self.returns.chance(now - beside.rests_since)

    def _note(self, call: str, choice: Choice, prompt: Prompt | None, match: Match, now: float) -> None:
        before = self.picks.pop(call, None)
        if before is not None and before.server in self.servers:
            self.servers[before.server].left(call, now)
        name = choice.chosen.name
        self.servers[name].sent(call, now, choice.chosen.uncached_tokens)
        if prompt is not None:
            self.caches[name].add(prompt, round(prompt.chars[-1] / self.chars_per_token), now)
        self.picks[call] = Pick(name, now, choice, prompt, choice.chosen.cached_tokens, match.distance)
        while len(self.picks) > MOST_PICKS:
            self.picks.popitem(last=False)

    def _heated(self, prompt: Prompt, depth: int, now: float) -> float:
        """Return how many prompts lately shared the cached beginning of this one, and count this one."""
        heat = 0.0
        node = prompt.nodes[min(depth, len(prompt.nodes)) - 1] if depth else prompt.nodes[0]
        if node in self._heat:
            count, at = self._heat.pop(node)
            heat = count * math.exp2(-max(0.0, now - at) / HEAT_HALVES_S)
        self._heat[node] = (heat + 1, now)
        while len(self._heat) > MOST_HEAT:
            self._heat.popitem(last=False)
        return heat

    def _retry_after_s(self, servers: Sequence[Server]) -> int:
        waits = [server.holding_s / (server.load.slots if server.load else 1) for server in servers]
        return max(1, min(60, math.ceil(min(waits))))
