"""What can be wrong with a GGUF file, each with the mend."""

from corral.errors import CorralError


class GgufError(CorralError):
    """A header cannot be read, or it lacks what a plan needs."""
