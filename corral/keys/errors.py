"""What can go wrong with keys; scripts can tell the two kinds apart by the exit code."""

from corral.errors import CorralError


class KeysError(CorralError):
    """A fault of the keys' commands."""


class GateError(KeysError):
    """The gate is not there, does not answer as it should, or refuses the master key; no argument can mend it."""


class InputError(KeysError):
    """The arguments are wrong: a bad number, a model or key that does not exist, an alias that is taken."""

    def __init__(self, cause: str, mend: str) -> None:
        super().__init__(cause, mend, exit_code=2)
