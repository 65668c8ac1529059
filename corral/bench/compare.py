"""Compares two runs: the ratio of their medians, with a confidence interval by bootstrap.

Values that follow one another in a run are alike (a queue does not empty between two requests), so blocks of
neighbours are drawn, not single values, else the interval would be too narrow: H. R. Kuensch, "The jackknife and the
bootstrap for general stationary observations", Annals of Statistics 17 (1989). Blocks have the length n^(1/3).
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DRAWS = 1000
CONFIDENCE = 0.95
LEAST_VALUES = 5
"""Fewer say nothing of a median."""
SEED = 1


@dataclass(frozen=True, slots=True)
class Interval:
    """A ratio and the bounds between which the true one lies with 95 % confidence."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric of a model in two runs. All metrics are times: more is worse."""

    metric: str
    subject: str
    median_a: float
    median_b: float
    interval: Interval

    def regressed(self, tolerance: float) -> bool:
        """Return whether B is slower than A by more than `tolerance` (a share), with confidence."""
        return self.interval.low > 1 + tolerance

    def improved(self, tolerance: float) -> bool:
        """Return whether B is faster than A by more than `tolerance`, with confidence."""
        return self.interval.high < 1 / (1 + tolerance)


Values = Mapping[tuple[str, str], Sequence[float]]


def compare(a: Values, b: Values) -> list[Comparison]:
    """Return what both runs measured often enough, compared."""
    found = []
    for key in sorted(set(a) & set(b)):
        of_a, of_b = a[key], b[key]
        if min(len(of_a), len(of_b)) < LEAST_VALUES:
            continue
        metric, subject = key
        found.append(
            Comparison(metric, subject, statistics.median(of_a), statistics.median(of_b), ratio_of_medians(of_a, of_b))
        )
    return found


def ratio_of_medians(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Return the median of `b` over that of `a`, each in the order of time; medians must be above 0.

    Raises:
        ValueError: a sequence is empty.
    """
    if not a or not b:
        raise ValueError("there is nothing to compare")
    chance = random.Random(SEED)  # noqa: S311  # the same runs give the same interval
    ratios = sorted(_resampled_median(b, chance) / max(_resampled_median(a, chance), 1e-12) for _ in range(DRAWS))
    outside = round(DRAWS * (1 - CONFIDENCE) / 2)
    ratio = statistics.median(b) / max(statistics.median(a), 1e-12)
    return Interval(ratio, ratios[outside], ratios[-outside - 1])


def _resampled_median(values: Sequence[float], chance: random.Random) -> float:
    """Return the median of as many values, drawn in blocks; a block goes on at the beginning."""
    count = len(values)
    length = max(1, round(count ** (1 / 3)))
    drawn: list[float] = []
    while len(drawn) < count:
        start = chance.randrange(count)
        drawn += values[start : start + length]
        if start + length > count:
            drawn += values[: start + length - count]
    return statistics.median(drawn[:count])
