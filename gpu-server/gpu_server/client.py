"""The client's side of a request: uvicorn's HTTP connection, with what the relay needs beyond ASGI.

ASGI tells of a lost client only to a task that waits for it, and nothing of how much the client left unread. So the
transport travels in the scope's state, as `client`.
"""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_NO_LINGER = struct.pack("ii", 1, 0)


class Client:
    """One connection of a client."""

    __slots__ = ("_transport", "gone", "on_lost")

    def __init__(self, transport: "_Transport") -> None:
        self._transport = transport
        self.gone = False
        self.on_lost: Callable[[], None] | None = None

    def hold_next(self) -> None:
        """Keep the next write, an answer's head, to go out in one piece with the write that follows it."""
        self._transport.hold_next()

    @property
    def unread(self) -> int:
        """Bytes that wait here because the client does not read them, those in the kernel's buffer included."""
        connection = self._transport.real.get_extra_info("socket")
        try:
            (in_kernel,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))
        except OSError:
            in_kernel = 0  # it is being closed
        return self._transport.real.get_write_buffer_size() + int(in_kernel)

    def cut_off(self) -> None:
        """Reset the connection; what is unread is lost, also what the kernel holds."""
        connection = self._transport.real.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.real.abort()

    def lost(self) -> None:
        """Tell whoever works for it."""
        self.gone = True
        if self.on_lost is not None:
            self.on_lost()


class _Transport:
    """A transport that can hold one write back."""

    def __init__(self, real: asyncio.Transport) -> None:
        self.real = real
        self._hold = False
        self._held = b""

    def hold_next(self) -> None:
        """Keep the next write until another one follows."""
        self._hold = True

    def write(self, data: bytes) -> None:
        """Write, or hold."""
        if self._hold:
            self._hold = False
            self._held = data
        elif self._held:
            self.real.write(self._held + data)
            self._held = b""
        else:
            self.real.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class ClientProtocol(HttpToolsProtocol):
    """uvicorn's protocol; give it to `uvicorn.Config(http=...)`."""

    _client: Client

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Put the connection where requests find it."""
        holding = _Transport(transport)
        super().connection_made(cast("asyncio.Transport", holding))
        self._client = Client(holding)
        self.app_state = {**self.app_state, "client": self._client}

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of the loss."""
        super().connection_lost(exc)
        self._client.lost()
