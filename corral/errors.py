"""The one error of the command line: a cause and its mend, printed without a traceback."""


class CorralError(Exception):
    """Something a person can mend.

    Args:
        cause: what is wrong and where, one line.
        mend: what to do about it, one line; may be empty if the cause says it.
        exit_code: the process's exit code; 1 for a failure, 2 for bad input.
    """

    def __init__(self, cause: str, mend: str = "", *, exit_code: int = 1) -> None:
        super().__init__(f"{cause}: {mend}" if mend else cause)
        self.cause = cause
        self.mend = mend
        self.exit_code = exit_code
