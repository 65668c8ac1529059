"""Server-sent events as bytes: where they end, and which of them say something."""

_END = b"\n\n"


class Events:
    """Cuts a stream of bytes after whole server-sent events."""

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""  # the beginning of an event

    def complete(self, piece: bytes) -> bytes:
        """Return the events that `piece` completes."""
        if not self.rest and piece.endswith(_END):
            return piece
        complete, end, self.rest = (self.rest + piece).rpartition(_END)
        return complete + end


def carries_data(events: bytes) -> bool:
    """Say whether whole `events` are more than comments, which only keep a connection open.

    A wedged llama-server sends comments too.
    """
    return not events.startswith(b":") or b"\ndata:" in events
