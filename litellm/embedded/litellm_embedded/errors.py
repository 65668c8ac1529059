"""The one kind of error that a person is meant to read."""


class EmbeddedError(Exception):
    """Something that this machine, its configuration or another program did; said in one line with its mend.

    Args:
        cause: What is wrong and where, without a full stop.
        mend: What to do about it, without a full stop.
    """

    def __init__(self, cause: str, mend: str) -> None:
        super().__init__(f"{one_line(cause)}. {one_line(mend)}.")
        self.cause = cause
        self.mend = mend


def one_line(text: str) -> str:
    """Join the lines of another program's message into one."""
    return " ".join(text.split())
