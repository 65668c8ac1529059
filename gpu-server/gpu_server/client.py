"""The client's side of a request: uvicorn's HTTP connection, with what the relay needs beyond ASGI.

ASGI tells of a lost client only to a task that waits for it, and nothing of how much the client left unread. So the
transport travels in the scope's state, as `client`.
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Client:
    """One connection of a client."""

    __slots__ = ("_transport", "gone", "on_lost")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.gone = False
        self.on_lost: Callable[[], None] | None = None

    @property
    def unread(self) -> int:
        """Bytes that wait here because the client does not read them."""
        return self._transport.get_write_buffer_size()

    def cut_off(self) -> None:
        """Close the connection at once; what is unread is lost."""
        self._transport.abort()

    def lost(self) -> None:
        """Tell whoever works for it."""
        self.gone = True
        if self.on_lost is not None:
            self.on_lost()


class ClientProtocol(HttpToolsProtocol):
    """uvicorn's protocol; give it to `uvicorn.Config(http=...)`."""

    _client: Client

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Put the connection where requests find it."""
        super().connection_made(transport)
        self._client = Client(transport)
        self.app_state = {**self.app_state, "client": self._client}

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of the loss."""
        super().connection_lost(exc)
        self._client.lost()
