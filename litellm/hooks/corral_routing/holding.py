"""How long a request holds a slot of a busy server: guessed from the server's speeds, then learnt from its answers.

An answer tells how long it took, the time in line for its slot with it, which nobody tells. The wait that was estimated
when the server was chosen is taken off. Where slots are held longer than believed, that estimate was too short, and
what is left of the time raises the mean: both come to rest where the mean is right. Without that a server whose line is
long for its speed, as a fast one's is, would seem to hold its requests longer than it does, and get fewer.
"""

from corral_routing.reports import Status

HOLDING_S = 4.0
"""How long a request holds a slot of a server whose speeds are not known either."""
USUAL_PROMPT_TOKENS = 500
USUAL_ANSWER_TOKENS = 100
SHARING = 0.3
"""What each further stream slows all by."""
SMOOTHING = 0.1
"""The least weight of a new answer in the mean."""
LEAST_S = 0.01


class Holding:
    """The mean time that a server's requests hold a slot, in seconds."""

    def __init__(self) -> None:
        self._mean_s = 0.0
        self._answers = 0

    def mean_s(self, status: Status | None) -> float:
        """Return the mean; before the first answer, a guess from `/status`.

        The guess is of usual requests in all slots: they share the writing, and each waits for the prompts of all.
        """
        if self._answers:
            return self._mean_s
        if status is None or not status.prefill_rate or not status.decode_rate:
            return HOLDING_S
        slots = status.load.slots
        prompts_s = slots * USUAL_PROMPT_TOKENS / status.prefill_rate
        return prompts_s + USUAL_ANSWER_TOKENS * (1 + SHARING * (slots - 1)) / status.decode_rate

    def learn(self, took_s: float, waited_s: float, status: Status | None) -> None:
        """Take note of an answer.

        Args:
            took_s: from its request to its end.
            waited_s: of these, those in line, as estimated when its server was chosen.
            status: the server's, for what to begin with.
        """
        before_s = self.mean_s(status)
        self._answers += 1
        weight = max(SMOOTHING, 1 / (self._answers + 1))
        self._mean_s = max(LEAST_S, before_s + weight * (took_s - waited_s - before_s))
