"""What can go wrong with a model, each with the mend."""

from corral.errors import CorralError


class ModelError(CorralError):
    """A model cannot be made ready."""


class FormatError(ValueError):
    """A file is not what its format, or the converter, asks for. Says which file and what is wrong with it."""
