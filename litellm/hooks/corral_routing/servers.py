"""What is known of one server: what it reported, what was sent to it since, and how much of that still holds.

Times are seconds of one clock that does not go back (`time.monotonic`), given with each call; a simulator gives its
own. Nothing here asks anybody: reports come from the poller and from the headers of answers.

| told by                        | standing                                                                 |
|--------------------------------|--------------------------------------------------------------------------|
| nobody yet, or long ago        | unknown: takes work as an average server would                           |
| /status: ready                 | ready                                                                    |
| /status: any other state       | out, `recovering` where it holds requests until it is back               |
| no connection, or 2 polls late | out                                                                      |
| /status: 404                   | foreign: no gpu-server; only what was sent to it is known                |
| /status that cannot be true    | unknown                                                                  |
| a request failed for it        | out until a /status asked for after that says ready, and a wait is over  |

The wait begins with the second failure in a row and doubles with each, up to half a minute: a server that answers
/status but no requests gets one request at the end of each. A restart ends it.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from corral_routing.holding import Holding
from corral_routing.reports import Load, Status

FRESH_S = 2.0
"""Up to this age a report is taken as it is."""
FULL_S = 1.0
"""Up to this age a report that a server is full is taken as one."""
STALE_S = 8.0
"""From this age on it says nothing; between, ever less."""
IN_TRANSIT_S = 0.05
"""A request sent less than this before a report was made may not have been counted by it."""
LATE_POLLS = 2
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
FORGET_FLIGHT_S = 3600.0
MOST_FLIGHTS = 10_000
PREFILL_RATE = 300.0
"""Prompt tokens/s, until one is measured."""
RECOVERING = frozenset({"starting", "restarting"})


class Standing(Enum):
    """Whether a server may be given work."""

    READY = "ready"
    UNKNOWN = "unknown"
    FOREIGN = "foreign"
    RECOVERING = "recovering"
    OUT = "out"


_AWAY = (Standing.OUT, Standing.RECOVERING)


@dataclass(slots=True)
class Flight:
    """A request sent to a server that is not known to have ended."""

    sent: float
    began: bool = False
    by_other: bool = False
    """Another worker sent it."""


class Server:
    """One server's state, in this process's eyes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status: Status | None = None
        self.status_at = -STALE_S
        self.load: Load | None = None
        self.load_at = -STALE_S
        self.reason = "not heard of yet"
        self._holding = Holding()
        self.flights: dict[str, Flight] = {}
        self.failures = 0
        """In a row."""
        self._standing = Standing.UNKNOWN
        self._ends: deque[tuple[float, float]] = deque(maxlen=MOST_FLIGHTS)
        """When requests that ended since its last report had been sent, and ended."""
        self._counted_ends = 0
        """Of these, those that the report counts."""
        self._ahead = 0.0
        self._ahead_at = 0.0
        self._unread = 0
        self._late = 0
        self._failed_at = -LONGEST_WAIT_S
        self._barred_until = -LONGEST_WAIT_S

    @property
    def holding_s(self) -> float:
        """How long a request holds one of its slots."""
        return self._holding.mean_s(self.status)

    def standing(self, now: float) -> Standing:
        """Return whether it may be given work now."""
        standing = self._standing
        if standing in _AWAY:
            return standing
        if now < self._barred_until:
            return Standing.OUT
        if now - self.load_at > STALE_S and now - self.status_at > STALE_S and standing is Standing.READY:
            return Standing.UNKNOWN
        return standing

    def age_s(self, now: float) -> float:
        """Return how old its last report is."""
        return max(0.0, now - self.load_at)

    def confidence(self, now: float) -> float:
        """Return how much its last report still says, 1 for all to 0 for nothing."""
        if self.load is None:
            return 0.0
        if now - self.load_at <= FRESH_S:
            return 1.0
        return min(1.0, max(0.0, (STALE_S - self.age_s(now)) / (STALE_S - FRESH_S)))

    def requests(self) -> int:
        """Return how many requests it has: those reported, less those that ended since, and those sent since."""
        sent_since = self._sent_after(self.load_at - IN_TRANSIT_S) if self.flights else 0
        if self.load is None:
            return sent_since
        return max(0, self.load.busy + self.load.queued - self._counted_ends) + sent_since

    def prefill_ahead(self, now: float) -> float:
        """Return the tokens that it still has to read of prompts that the gate sent, at the speed it measured."""
        if not self._unread:
            return 0.0
        rate = (self.status.prefill_rate if self.status else None) or PREFILL_RATE
        return max(0.0, self._ahead - max(0.0, now - self._ahead_at) * rate)

    def is_full(self, now: float) -> bool:
        """Return whether it would refuse a request now. In doubt it would not: to be wrong costs one more try."""
        status, load = self.status, self.load
        if status is None or load is None or self.age_s(now) > FULL_S:
            return False
        room = load.slots + status.max_queue - (load.busy + load.queued - self._counted_ends)
        return room <= 0 or (room <= len(self.flights) and room <= self._sent_after(self.load_at, own=True))

    def sent(self, call: str, now: float, uncached_tokens: float, *, by_other: bool = False) -> None:
        """Note a request sent to it, by this worker or another."""
        self._leave(call, now)
        self._ahead, self._ahead_at = self.prefill_ahead(now) + uncached_tokens, now
        self._unread += 1
        self.flights[call] = Flight(now, by_other=by_other)
        while len(self.flights) > MOST_FLIGHTS or now - next(iter(self.flights.values())).sent > FORGET_FLIGHT_S:
            self._read(self.flights.pop(next(iter(self.flights))))

    def began(self, call: str, load: Load | None, now: float) -> None:
        """Note that the answer to a request began, with what its headers said; they count this request."""
        self._late = 0
        flight = self.flights.get(call)
        if flight is not None:
            self._read(flight)
        if load is not None:
            self._take(load, now)
            if flight is not None:
                flight.sent = min(flight.sent, now - 2 * IN_TRANSIT_S)  # it is in that report

    def ended(self, call: str, now: float, took_s: float | None = None, waited_s: float = 0.0) -> None:
        """Note that a request was answered to its end, `took_s` after it was sent, of which it likely waited some."""
        self._leave(call, now)
        self.failures = self._late = 0
        if took_s is not None and 0 < took_s < FORGET_FLIGHT_S:
            self._holding.learn(took_s, waited_s, self.status)

    def left(self, call: str, now: float) -> None:
        """Note that a request is over, whatever became of it."""
        self._leave(call, now)

    def refused(self, call: str, now: float) -> None:
        """Note that it had no room for a request: until the next report it is taken to be full."""
        self._leave(call, now)
        if self.status is not None:
            slots = self.status.load.slots
            self._take(Load(busy=slots, queued=self.status.max_queue, slots=slots), now)

    def failed(self, call: str, sent: float, now: float) -> None:
        """Note that it failed a request of `sent`, by its own fault; those it had when it failed one count once."""
        self._leave(call, now)
        if sent > self._failed_at:
            self.failures += 1
        self._failed_at = now
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self.failures - 2, 8)) if self.failures > 1 else 0.0
        self._barred_until = now + wait_s
        self._standing = Standing.OUT
        self.reason = f"failed {self.failures} times in a row"

    def reported(self, status: Status, asked: float, now: float) -> bool:
        """Take a `/status` asked for at `asked`; return whether llama-server was started anew since the last."""
        before, self.status = self.status, status
        anew = before is not None and before.generation != status.generation
        self.status_at = now
        self._late = 0
        self._take(status.load, asked)
        if anew or status.state != "ready":
            self._excuse(now)
        if status.state == "ready":
            if asked >= self._failed_at and now >= self._barred_until:
                self._standing, self.reason = Standing.READY, "ready"
        else:
            self._standing = Standing.RECOVERING if status.state in RECOVERING else Standing.OUT
            self.reason = f"says it is {status.state}"
        return anew

    def unreachable(self, reason: str, now: float) -> None:
        """Note that nothing listens there."""
        self._excuse(now)
        self._standing, self.reason = Standing.OUT, reason

    def late(self, reason: str) -> None:
        """Note that a `/status` did not come in time."""
        self._late += 1
        if self._late >= LATE_POLLS:
            self._standing, self.reason = Standing.OUT, reason

    def garbled(self, reason: str, now: float) -> None:
        """Note that its `/status` cannot be true, or is kept from us: nothing is known of it."""
        self._late = 0
        self.load = None
        if now >= self._barred_until:
            self._standing, self.reason = Standing.UNKNOWN, reason

    def foreign(self, now: float) -> None:
        """Note that it has no `/status`."""
        self._late = 0
        if now >= self._barred_until:
            self._standing, self.reason = Standing.FOREIGN, "has no /status: no gpu-server"

    def _excuse(self, now: float) -> None:
        """Forget what failed: a restart explains it, and what comes back is another llama-server."""
        self.failures = 0
        self._barred_until = min(self._barred_until, now)

    def _take(self, load: Load, at: float) -> None:
        if at < self.load_at:
            return  # overtaken by a later one
        self.load, self.load_at = load, at
        ends = self._ends
        while ends and ends[0][1] <= at:
            ends.popleft()
        counted = at - IN_TRANSIT_S
        self._counted_ends = sum(1 for sent, _ in ends if sent <= counted)

    def _leave(self, call: str, now: float) -> None:
        flight = self.flights.pop(call, None)
        if flight is None:
            return
        self._read(flight)
        if self.load is None:
            return
        # One that ended while the report was on its way counts too, though the report may have left it out: a request
        # too few until the next report, where the other mistake would keep a server that is free looking busy.
        counted, ends = self.load_at - IN_TRANSIT_S, self._ends
        if len(ends) == MOST_FLIGHTS:
            self._counted_ends -= ends[0][0] <= counted
        ends.append((flight.sent, now))
        self._counted_ends += flight.sent <= counted

    def _read(self, flight: Flight) -> None:
        """Note that a request's prompt has been read, or need not be any more."""
        if not flight.began:
            flight.began = True
            self._unread -= 1

    def _sent_after(self, at: float, *, own: bool = False) -> int:
        count = 0
        for flight in reversed(self.flights.values()):
            if flight.sent <= at:
                break
            count += not (own and flight.by_other)
        return count
