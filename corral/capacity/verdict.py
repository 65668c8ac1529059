"""What a trial found, and whether it kept the objectives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from corral.render.k6 import ObjectiveTarget

LATE_SHARE = 0.05
"""p95: so many may be late."""
GROWTH_SIGMAS = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request that came at `at_s`. Times are None where it was not answered.

    Args:
        at_s: seconds from the trial's start; one from before it warmed the farm up, and is not judged.
        first_s: until the first token, or the whole of an answer that is not streamed.
        whole_s: until the end.
        refused: with 429.
        server: which one answered, where it said so.
    """

    at_s: float
    first_s: float | None = None
    whole_s: float | None = None
    refused: bool = False
    server: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """The figures of one rate. Percentiles are None where nothing was answered.

    Args:
        rate_rpm: requests a minute that were sent.
        seconds: how long.
        requests: how many of them are judged.
        errors: not answered, those refused among them.
        refused: with 429.
        late: those that began after `ttft_p95_s`.
        in_flight: requests without an answer, their mean in each quarter of the trial.
        servers: answers by server.
        cut_short: it was ended early: an objective was broken for certain.
        loads: what was seen of servers and processes meanwhile, see `corral.capacity.beside`.
    """

    rate_rpm: float
    seconds: float
    requests: int
    errors: int
    refused: int
    late: int
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    duration_p50_s: float | None
    duration_p95_s: float | None
    in_flight: tuple[float, ...] = ()
    servers: Mapping[str, int] = field(default_factory=dict)
    cut_short: bool = False
    loads: Mapping[str, float] = field(default_factory=dict)


def trial_of(
    rate_rpm: float,
    seconds: float,
    answers: Sequence[Answer],
    ttft_limit_s: float,
    *,
    cut_short: bool = False,
    loads: Mapping[str, float] | None = None,
) -> Trial:
    """Sum up answers; those without an end are errors."""
    judged = [answer for answer in answers if answer.at_s >= 0]
    first = sorted(answer.first_s for answer in judged if answer.first_s is not None)
    whole = sorted(answer.whole_s for answer in judged if answer.whole_s is not None)
    servers: dict[str, int] = {}
    for answer in judged:
        if answer.server and answer.whole_s is not None:
            servers[answer.server] = servers.get(answer.server, 0) + 1
    return Trial(
        rate_rpm=rate_rpm,
        seconds=seconds,
        requests=len(judged),
        errors=len(judged) - len(whole),
        refused=sum(answer.refused for answer in judged),
        late=sum(value > ttft_limit_s for value in first),
        ttft_p50_s=percentile(first, 0.5),
        ttft_p95_s=percentile(first, 0.95),
        duration_p50_s=percentile(whole, 0.5),
        duration_p95_s=percentile(whole, 0.95),
        in_flight=_in_flight(answers, seconds),
        servers=servers,
        cut_short=cut_short,
        loads=dict(loads or {}),
    )


def broken(trial: Trial, objectives: ObjectiveTarget, slots: int) -> str | None:
    """Return the first objective that a trial broke, in words; None if it kept all."""
    if trial.errors > objectives["error_share"] * trial.requests:
        refused = f" ({trial.refused} of {trial.errors} refused by 429)" if trial.refused else ""
        return f"{trial.errors / trial.requests:.1%} failed{refused}, {objectives['error_share']:.1%} may"
    limit = objectives["ttft_p95_s"]
    if trial.cut_short or (trial.ttft_p95_s or math.inf) > limit:
        found = f", p95 was {trial.ttft_p95_s:.2f} s so far" if trial.ttft_p95_s else ""
        return f"more than 5 % began after {limit:g} s{found}"
    whole = objectives["duration_p95_s"]
    if whole is not None and (trial.duration_p95_s or math.inf) > whole:
        return f"p95 of whole answers was {trial.duration_p95_s:.2f} s, over {whole:g} s"
    return _queue_grows(trial, slots)


def _queue_grows(trial: Trial, slots: int) -> str | None:
    """Say so if requests came faster than they were answered, beyond what chance makes of it.

    From the second quarter to the last, half a trial passes; by chance alone the number in flight changes in it by the
    order of the root of the requests that came.
    """
    if len(trial.in_flight) < 4:
        return None
    second, last = trial.in_flight[1], trial.in_flight[3]
    chance = GROWTH_SIGMAS * math.sqrt(trial.requests / 2)
    if last > slots and last - second > max(chance, slots):
        return f"the queue grew from {second:.0f} to {last:.0f} requests in half the trial"
    return None


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least this share does not exceed; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _in_flight(answers: Sequence[Answer], seconds: float) -> tuple[float, ...]:
    """Return the mean number of unanswered requests in each quarter, by the time that each spent in it."""
    quarter = seconds / 4
    found = []
    for number in range(4):
        start, end = number * quarter, (number + 1) * quarter
        spent = sum(
            max(
                0.0,
                min(end, answer.at_s + (answer.whole_s if answer.whole_s is not None else seconds))
                - max(start, answer.at_s),
            )
            for answer in answers
        )
        found.append(spent / quarter)
    return tuple(found)
