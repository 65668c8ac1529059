"""Whether a conversation comes back: learnt from those that did, and how soon.

Of answered prompts a share p is gone on from, after g seconds on average. One that has rested for t seconds so comes
back with the chance p S / (p S + 1 - p), where S = exp(-t / g): the longer it rests, the likelier it is over.
"""

import math

FIRST_SHARE = 0.5
FIRST_GAP_S = 30.0
SURE_AFTER = 10.0
"""Answers after which what was seen weighs as much as what was assumed."""
FADES = 0.998
"""What an answer leaves of the weight of those before it."""
SMOOTHING = 0.05
LONGEST_GAP_S = 3600.0
MOST_SHARE = 0.99


class Returns:
    """What one process has seen of all conversations; times are seconds."""

    def __init__(self) -> None:
        self.gap_s = FIRST_GAP_S
        self._answered = 0.0
        self._continued = 0.0

    @property
    def share(self) -> float:
        """How many answered prompts are gone on from, of all."""
        seen = (self._continued + SURE_AFTER * FIRST_SHARE) / (self._answered + SURE_AFTER)
        return min(MOST_SHARE, seen)

    def answered(self) -> None:
        """Note that a prompt was answered."""
        self._answered = self._answered * FADES + 1
        self._continued *= FADES

    def continued(self, gap_s: float) -> None:
        """Note that an answered prompt was gone on from after so long."""
        self._continued += 1
        self.gap_s += SMOOTHING * (min(max(gap_s, 0.0), LONGEST_GAP_S) - self.gap_s)

    def chance(self, rested_s: float) -> float:
        """Return the chance that a conversation comes back which has rested for so long."""
        comes = self.share * math.exp(-max(rested_s, 0.0) / max(self.gap_s, 0.1))
        return comes / (comes + 1 - self.share)
