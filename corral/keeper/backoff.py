"""When to start a part again that stopped by itself."""

import random
from dataclasses import dataclass

FIRST_S, LONGEST_S = 0.5, 30.0
STEADY_S = 60.0
"""A part that ran this long is taken for healthy: its earlier deaths are forgotten."""
QUICK_DEATHS = 5
FAILED_RETRY_S = 60.0


@dataclass
class Backoff:
    """Counts quick deaths of one part and says how long to wait before the next start."""

    quick_deaths: int = 0

    def died(self, ran_s: float) -> None:
        """Take note of a death after `ran_s` seconds."""
        self.quick_deaths = 1 if ran_s >= STEADY_S else self.quick_deaths + 1

    @property
    def failed(self) -> bool:
        """Whether it died so often that only one try a minute is left."""
        return self.quick_deaths >= QUICK_DEATHS

    def delay_s(self) -> float:
        """Seconds to wait: doubled with every quick death, with up to a quarter of jitter."""
        if self.failed:
            return FAILED_RETRY_S
        return float(min(LONGEST_S, FIRST_S * 2 ** max(0, self.quick_deaths - 1)) * random.uniform(1.0, 1.25))  # noqa: S311  # jitter, not a secret
