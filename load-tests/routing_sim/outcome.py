"""What came of runs: times, shares of the work, and how true the router's estimates were."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from routing_sim.engine import Card
from routing_sim.gate import Gate
from routing_sim.server import Request, SimulatedServer


@dataclass(frozen=True)
class Believed:
    """What the router expected of its requests, on average, and what came; seconds."""

    wait_expected_s: float
    wait_s: float
    prefill_expected_s: float
    prefill_s: float
    holding_expected_s: float
    holding_s: float


@dataclass(frozen=True)
class OfSpeed:
    """The servers of one speed together.

    `requests` and `work` are their shares of the farm's, as multiples of their share of its speed; `believed` is of the
    routing hook's router alone.
    """

    speed: float
    requests: float
    work: float
    ttft_mean_s: float
    believed: Believed | None


@dataclass(frozen=True)
class Outcome:
    """Seconds and shares. `cached_of_best` is the cached tokens' share of those a cache without end would give."""

    ttft_mean_s: float
    ttft_p25_s: float
    ttft_median_s: float
    ttft_p75_s: float
    ttft_p90_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    whole_mean_s: float
    """From a request to the end of its answer."""
    whole_p95_s: float
    cached_of_best: float
    prefilled_tokens: int
    answered: int
    refused: int
    failed: int
    uneven: float
    """The largest distance of a server's share of requests from its share of the farm's speed, of the latter."""
    uneven_work: float
    """The same of the work: seconds that prompts and answers take a full server of speed 1."""
    utilisation: float
    by_speed: tuple[OfSpeed, ...]


@dataclass(frozen=True)
class Run:
    """One run at its end; `best_cached` is what a cache without end would have saved, in tokens."""

    gate: Gate
    farm: Sequence[SimulatedServer]
    best_cached: int
    seconds: float


def outcome(runs: Sequence[Run]) -> Outcome:
    """Return what came of runs of the same farm, taken together."""
    farm, card = runs[0].farm, runs[0].farm[0].card
    answered = [one for run in runs for one in run.gate.answered if one.first_token is not None]
    ttft = [_ttft_s(one) for one in answered]
    whole = [one.ended - one.arrived for one in answered if one.ended is not None]
    cuts, whole_cuts = quantiles(ttft, n=100), quantiles(whole, n=100)
    fair = {server.name: server.speed / sum(its.speed for its in farm) for server in farm}
    requests = {name: float(sum(run.gate.picks[name] for run in runs)) for name in fair}
    work = dict.fromkeys(fair, 0.0)
    for one in answered:
        work[one.server] += _work_s(card, one)
    best = sum(run.best_cached for run in runs)
    busy_s = sum(s.prefilled_tokens / (card.prefill_rate * s.speed) for run in runs for s in run.farm)
    return Outcome(
        ttft_mean_s=fmean(ttft),
        ttft_p25_s=cuts[24],
        ttft_median_s=cuts[49],
        ttft_p75_s=cuts[74],
        ttft_p90_s=cuts[89],
        ttft_p95_s=cuts[94],
        ttft_p99_s=cuts[98],
        whole_mean_s=fmean(whole),
        whole_p95_s=whole_cuts[94],
        cached_of_best=sum(one.cached for one in answered) / best if best else 0.0,
        prefilled_tokens=sum(server.prefilled_tokens for run in runs for server in run.farm),
        answered=len(answered),
        refused=sum(run.gate.refused for run in runs),
        failed=sum(run.gate.failed for run in runs),
        uneven=max(abs(times - 1) for times in _times_fair(requests, fair).values()),
        uneven_work=max(abs(times - 1) for times in _times_fair(work, fair).values()),
        utilisation=busy_s / sum(run.seconds * len(run.farm) for run in runs),
        by_speed=tuple(
            _of_speed(speed, farm, fair, requests, work, answered) for speed in sorted({its.speed for its in farm})
        ),
    )


def _of_speed(
    speed: float,
    farm: Sequence[SimulatedServer],
    fair: dict[str, float],
    requests: dict[str, float],
    work: dict[str, float],
    answered: Sequence[Request],
) -> OfSpeed:
    names = {server.name for server in farm if server.speed == speed}
    theirs = [one for one in answered if one.server in names]
    its_fair = sum(fair[name] for name in names)
    return OfSpeed(
        speed,
        sum(requests[name] for name in names) / sum(requests.values()) / its_fair,
        sum(work[name] for name in names) / sum(work.values()) / its_fair,
        fmean(_ttft_s(one) for one in theirs) if theirs else 0.0,
        _believed([one for one in theirs if one.expected is not None and one.tries == 1], farm[0].card),
    )


def _believed(requests: Sequence[Request], card: Card) -> Believed | None:
    told = [
        (one.expected, one.started - one.arrived, one.first_token - one.started, one.ended - one.started)
        for one in requests
        if one.expected and one.started is not None and one.first_token is not None and one.ended is not None
    ]
    if not told:
        return None
    return Believed(
        fmean(expected.estimate.wait_s for expected, _, _, _ in told),
        fmean(wait_s for _, wait_s, _, _ in told),
        fmean(expected.estimate.prefill_s for expected, _, _, _ in told),
        fmean(prefill_s for _, _, prefill_s, _ in told) - card.overhead_s,
        fmean(expected.holding_s for expected, _, _, _ in told),
        fmean(holding_s for _, _, _, holding_s in told),
    )


def _times_fair(shares: dict[str, float], fair: dict[str, float]) -> dict[str, float]:
    whole = sum(shares.values())
    return {name: shares[name] / whole / fair[name] for name in fair}


def _ttft_s(request: Request) -> float:
    return (request.first_token or 0.0) - request.arrived


def _work_s(card: Card, request: Request) -> float:
    full = card.slots * card.decode_rate / (1 + card.sharing * (card.slots - 1))
    return card.prefill_s(request.cached, request.tokens[-1]) + request.answer_tokens / full
