"""The table that a run of tests/compose prints at its end."""


class Tell:
    """Adds lines: what was done, what was seen, what it cost the clients."""

    def __init__(self, rows: list[tuple[str, str, str]]) -> None:
        self._rows = rows

    def __call__(self, done: str, seen: str, lost: str = "-") -> None:
        """Add one line."""
        self._rows.append((done, seen, lost))
