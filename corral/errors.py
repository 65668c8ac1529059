"""The errors that a person can mend: a cause and its mend in one line, printed without a traceback."""


class CorralError(Exception):
    """Something a person can mend; its text is `cause; mend`.

    Args:
        cause: what is wrong and where.
        mend: what to do about it.
        exit_code: the process's exit code: 1 for a failure, 2 for bad input.
    """

    def __init__(self, cause: str, mend: str, *, exit_code: int = 1) -> None:
        super().__init__(f"{cause}; {mend}")
        self.cause = cause
        self.mend = mend
        self.exit_code = exit_code

    def lines(self) -> list[str]:
        """Return what is printed, one line for each thing that is wrong."""
        return [str(self)]
