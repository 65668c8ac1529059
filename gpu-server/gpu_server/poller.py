"""The one who asks llama-server how it is: readiness while it starts, then slots and counters, one question at a time.

llama-server answers /slots and /metrics between two decode steps, so they can hang while it is busy or wedged. Only
this loop asks; /status and scrapes read its last answer.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpu_server.loading import LoadWatch
from gpu_server.states import Cause, Healthy, Observation, Phase, Snapshot, Stalled

STARTING_INTERVAL_S = 0.1
# llama-server looks once a second whether the client of an answer that is not streamed has left, but each result that
# passes its queue, our own questions included, starts that second anew: asking every second would keep it from looking.
BUSY_INTERVAL_S = 2.5
IDLE_INTERVAL_S = 3.0
# Each answer puts off by a second the moment in which llama-server looks for a client that left.
LEAST_INTERVAL_S = 1.5
ANSWER_TIMEOUT_S = 5.0
# Loading may pause: for other readers of a disk, for a driver that wakes its card.
LOADING_PATIENCE = 2  # x STALL_TIMEOUT_S


class Source(Protocol):
    """Where readings come from: `Upstream`, or a fake."""

    async def text(self, path: str, timeout_s: float) -> str | None:
        """Return the body of a 200 answer, else None."""

    async def document(self, path: str, timeout_s: float) -> Any:
        """Return the JSON of a 200 answer, else None."""


class Supervised(Protocol):
    """What the poller needs of the supervisor."""

    snapshot: Snapshot

    @property
    def pid(self) -> int | None:
        """The llama-server that runs, if one does."""

    def tell(self, seen: Observation) -> None:
        """Take an observation."""

    async def until(self, condition: Callable[[Snapshot], bool], timeout_s: float) -> Snapshot:
        """Wait for a snapshot."""


@dataclass(slots=True)
class Progress:
    """Signs of life of the work in flight, from the relay (bytes) and from the poll (tokens)."""

    clock: Callable[[], float] = time.perf_counter  # the relay's
    waiting: int = 0  # requests that wait for llama-server now; those held up by a slow client are not among them
    last: float = 0.0

    def touch(self) -> None:
        """Something moved."""
        self.last = self.clock()


@dataclass(frozen=True, slots=True)
class Reading:
    """llama-server's last answers."""

    busy_slots: int = 0
    context: int | None = None  # tokens a slot
    counters: dict[str, float] = field(default_factory=dict)
    build: str | None = None


class SlotWatch:
    """Since when each slot that produces tokens stands still.

    A slot in prefill may rightly wait for the prompts of others; one that decodes gets a token with every batch, so
    that one that gets none is stuck, however busy the others are.
    """

    def __init__(self) -> None:
        self._slots: dict[object, tuple[object, float]] = {}

    def see(self, slots: list[dict[str, Any]], at: float) -> None:
        """Take an answer of /slots, got at `at`."""
        before, self._slots = self._slots, {}
        for slot in slots:
            marks = _marks(slot)
            if slot.get("is_processing") and marks[-1]:
                known = before.get(slot.get("id"))
                self._slots[slot.get("id")] = known if known is not None and known[0] == marks else (marks, at)

    @property
    def oldest(self) -> float:
        """When the slot that stands still for longest moved last; infinity if none produces tokens."""
        return min((moved for _, moved in self._slots.values()), default=math.inf)


def stall_cause(
    at: float, progress: Progress, last_answer: float, timeout_s: float, oldest_slot: float = math.inf
) -> Cause | None:
    """Say whether llama-server is stuck: for `timeout_s` work waited and nothing moved, or one slot, or no answer."""
    if (progress.waiting and at - progress.last > timeout_s) or at - oldest_slot > timeout_s:
        return Cause.NO_PROGRESS
    if at - last_answer > timeout_s:
        return Cause.POLL_TIMEOUT
    return None


def parse_counters(text: str) -> dict[str, float]:
    """Return llama-server's Prometheus samples by name, without the `llamacpp:` prefix."""
    counters = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name.startswith("llamacpp:"):
            try:
                counters[name.removeprefix("llamacpp:")] = float(value)
            except ValueError:
                continue
    return counters


class Poller:
    """Polls one llama-server for as long as `run` runs."""

    def __init__(self, source: Source, supervisor: Supervised, progress: Progress, stall_timeout_s: float) -> None:
        self.reading = Reading()
        self._source = source
        self._supervisor = supervisor
        self._progress = progress
        self._stall_timeout_s = stall_timeout_s
        self._answer_timeout_s = min(ANSWER_TIMEOUT_S, stall_timeout_s)
        self._last_answer = 0.0
        self._seen_slots: object = None
        self._slot_watch = SlotWatch()
        self._load_watch = LoadWatch(LOADING_PATIENCE * stall_timeout_s)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            now = self._supervisor.snapshot
            if now.phase is Phase.STARTING and now.running:
                await self._ask_ready(now.generation)
            elif now.phase is Phase.READY:
                await self._ask_slots(now.generation)
            else:
                await self._change(lambda seen: seen.phase in (Phase.STARTING, Phase.READY), 3600)

    async def _ask_ready(self, generation: int) -> None:
        health = await self._source.document("/health", ANSWER_TIMEOUT_S)
        if not isinstance(health, dict) or health.get("status") != "ok":
            pid = self._supervisor.pid
            if pid is not None and self._load_watch.is_stuck(generation, pid, self._progress.clock()):
                self._supervisor.tell(Stalled(generation, Cause.NO_PROGRESS))
            await self._change(lambda seen: seen.generation != generation or not seen.running, STARTING_INTERVAL_S)
            return
        props = await self._source.document("/props", ANSWER_TIMEOUT_S)
        build = str(props.get("build_info") or "") if isinstance(props, dict) else ""
        self.reading = Reading(build=build or None)
        self._slot_watch = SlotWatch()
        self._last_answer = self._progress.clock()
        self._progress.touch()
        self._supervisor.tell(Healthy(generation))
        await self._change(lambda seen: seen.phase is not Phase.STARTING, ANSWER_TIMEOUT_S)

    async def _ask_slots(self, generation: int) -> None:
        slots = await self._source.document("/slots", self._answer_timeout_s)
        at = self._progress.clock()
        if isinstance(slots, list):
            self._last_answer = at
            await self._note(slots, at)
        cause = stall_cause(at, self._progress, self._last_answer, self._stall_timeout_s, self._slot_watch.oldest)
        if cause is not None:
            self._supervisor.tell(Stalled(generation, cause))
        interval_s = BUSY_INTERVAL_S if self._progress.waiting or self.reading.busy_slots else IDLE_INTERVAL_S
        interval_s = min(interval_s, max(LEAST_INTERVAL_S, self._stall_timeout_s / 4))
        await self._change(lambda seen: seen.generation != generation or seen.phase is not Phase.READY, interval_s)

    async def _note(self, slots: list[Any], at: float) -> None:
        slots = [slot for slot in slots if isinstance(slot, dict)]
        self._slot_watch.see(slots, at)
        working = [_marks(slot) for slot in slots if slot.get("is_processing")]
        if working != self._seen_slots:
            self._seen_slots = working
            self._progress.touch()
        text = await self._source.text("/metrics", self._answer_timeout_s)
        self.reading = Reading(
            busy_slots=len(working),
            context=next((slot["n_ctx"] for slot in slots if isinstance(slot.get("n_ctx"), int)), None),
            counters=self.reading.counters if text is None else parse_counters(text),
            build=self.reading.build,
        )

    async def _change(self, condition: Callable[[Snapshot], bool], timeout_s: float) -> None:
        try:
            await self._supervisor.until(condition, timeout_s)
        except TimeoutError:
            return


def _marks(slot: dict[str, Any]) -> tuple[object, ...]:
    """What changes of a working slot while it makes progress, in prefill and in decode."""
    tokens = slot.get("next_token")
    decoded = tokens[0] if isinstance(tokens, list) and tokens else tokens
    decoded = decoded.get("n_decoded") if isinstance(decoded, dict) else None
    return slot.get("id"), slot.get("id_task"), slot.get("n_prompt_tokens_processed"), decoded
