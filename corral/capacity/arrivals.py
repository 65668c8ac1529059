"""When requests come."""

import random

WARM_SHARE = 1 / 3
"""Of a trial, its beginning: an empty farm answers sooner than one that has been at it, so it is not judged."""


def arrivals(rate_per_s: float, seconds: float, chance: random.Random) -> list[float]:
    """Return the moments of a Poisson process of this rate: those to be judged from 0 to `seconds`, warm-up before.

    The count is the process's mean: given its count, its moments are independent and uniform (S. M. Ross, "Stochastic
    Processes", theorem 2.3.1). That takes away chance that says nothing of the farm: two trials of a rate send as much.
    """
    warm_s = seconds * WARM_SHARE / (1 - WARM_SHARE)
    return sorted(chance.uniform(-warm_s, seconds) for _ in range(max(1, round(rate_per_s * (seconds + warm_s)))))
