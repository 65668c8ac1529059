"""What follows from the trials of a model: the knee, the safe rate, what is full at the knee, settings that fit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corral.capacity.beside import BUSY, CORES, MACHINE
from corral.capacity.search import Search
from corral.capacity.verdict import Trial, broken
from corral.render.k6 import ModelTarget

HEADROOM = 0.15
FULL = 0.85
UNEVEN = 1.5


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a model.

    Args:
        model: its name.
        servers: how many it has.
        held_rpm: the highest rate at which all objectives held; None if none did.
        broke_rpm: the lowest that broke one; None if the search was ended before.
        reason: which one broke, in words.
        safe_rpm: of all servers together; the knee less the headroom.
        by_server: the safe rate of each server, as the gate shares out.
        bottleneck: what is full at the knee, in words.
        rpm: suggested limit of each server.
        parallel: suggested limit of requests at a time of each server.
        max_queue: suggested queue of each server.
    """

    model: str
    servers: int
    held_rpm: float | None
    broke_rpm: float | None
    reason: str
    safe_rpm: float | None
    by_server: Mapping[str, float]
    bottleneck: str
    rpm: int | None
    parallel: int | None
    max_queue: int | None

    @property
    def complete(self) -> bool:
        """Whether the search came to its end."""
        return self.held_rpm is not None and self.broke_rpm is not None


def finding(model: ModelTarget, search: Search, trials: Sequence[Trial], unloaded_s: float, headroom: float) -> Finding:
    """Say what follows.

    Args:
        model: whose it is.
        search: as far as it came.
        trials: all of it.
        unloaded_s: time to first token of a request that is alone.
        headroom: share of the knee that is left free.
    """
    low, high, count = search.low_rpm, search.high_rpm, len(model["servers"])
    held = next((trial for trial in trials if trial.rate_rpm == low), None)
    broke = next((trial for trial in trials if trial.rate_rpm == high), None)
    reason = (broken(broke, model["objectives"], model["slots"]) or "") if broke else ""
    if held is None or low is None:
        return Finding(
            model["name"],
            count,
            None,
            high,
            reason,
            None,
            {},
            bottleneck(model, broke) if broke else "",
            None,
            None,
            None,
        )
    knee = search.knee_rpm or low
    safe = knee * (1 - headroom)
    total = sum(held.servers.values()) or 1
    queue = _queue(knee / 60 / count, model["objectives"]["ttft_p95_s"] - unloaded_s)
    slots = model["slots"] // count
    return Finding(
        model=model["name"],
        servers=count,
        held_rpm=low,
        broke_rpm=high,
        reason=reason,
        safe_rpm=safe,
        by_server={name: safe * answered / total for name, answered in sorted(held.servers.items())},
        bottleneck=bottleneck(model, broke or held),
        rpm=max(1, math.floor(safe / count)),
        parallel=slots + queue,
        max_queue=queue,
    )


def bottleneck(model: ModelTarget, trial: Trial) -> str:
    """Say what was full in a trial."""
    loads = trial.loads
    busy = {name: loads[BUSY + name] for name in model["servers"] if BUSY + name in loads}
    full = [name for name, share in busy.items() if share >= FULL]
    machine, gate = loads.get(MACHINE, 0.0), loads.get(CORES + "litellm", 0.0)
    if gate >= FULL:
        return f"the gate: it kept {gate:.2f} cores busy; give it more workers"
    if full and len(full) < len(busy):
        rest = ", ".join(sorted(set(busy) - set(full)))
        return f"uneven servers: {', '.join(full)} full, {rest} not; slower card, or see docs/routing.md"
    if full:
        cpu = f", and this machine's CPU is {machine:.0%} taken" if machine >= FULL else ""
        return f"the servers: all slots of {', '.join(full)} are busy{cpu}; add a server, or slots where memory allows"
    if machine >= FULL:
        return f"this machine's CPU: {machine:.0%} taken, though slots are free"
    if not busy:
        return "not known: the servers could not be asked (GPU_SERVER_KEY)"
    return "none found: neither slots nor gate were full; chance, or a limit of the gate (corral keys, limits)"


def _queue(per_server_per_s: float, patience_s: float) -> int:
    """Return how many may wait: those that a server can begin within the time that the objective leaves."""
    return max(1, math.floor(per_server_per_s * max(0.0, patience_s)))
