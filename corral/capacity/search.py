"""Which rate to try next: up until an objective breaks, then between the last that held and the first that broke."""

import math
from dataclasses import dataclass, field

RAISE = 1.6
FALL = 0.5
LEAST_RPM = 1.0


@dataclass
class Search:
    """The search for one model. The next rate depends only on what was recorded, so that it can be taken up again.

    Args:
        start_rpm: the first rate.
        precision: it ends when the rate that broke is within this share of the one that held.
    """

    start_rpm: float
    precision: float = 0.05
    held: list[float] = field(default_factory=list)
    broke: list[float] = field(default_factory=list)

    @property
    def low_rpm(self) -> float | None:
        """The highest rate that held below all that broke."""
        below = [rate for rate in self.held if rate < min(self.broke, default=math.inf)]
        return max(below, default=None)

    @property
    def high_rpm(self) -> float | None:
        """The lowest rate that broke."""
        return min(self.broke, default=None)

    @property
    def knee_rpm(self) -> float | None:
        """Where latency turns: between the two. None before both are known."""
        if self.low_rpm is None or self.high_rpm is None:
            return None
        return math.sqrt(self.low_rpm * self.high_rpm)

    def next_rpm(self) -> float | None:
        """Return the next rate to try; None when the search has ended."""
        low, high = self.low_rpm, self.high_rpm
        if low is None and high is None:
            return self.start_rpm
        if high is None:
            return (low or self.start_rpm) * RAISE
        if low is None:
            return high * FALL if high * FALL >= LEAST_RPM else None
        return None if high / low <= 1 + self.precision else math.sqrt(low * high)

    def record(self, rate_rpm: float, *, held: bool) -> None:
        """Note what became of a rate."""
        (self.held if held else self.broke).append(rate_rpm)
