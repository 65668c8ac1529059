"""Refuse a taken port before anything is started on it."""

import errno
import socket

from litellm_embedded.errors import EmbeddedError


def check_port(host: str, port: int) -> None:
    """Refuse a port that is taken, by its number. LiteLLM itself would move from 4000 to a random one.

    Raises:
        EmbeddedError: if nothing can listen there.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EmbeddedError(
                f"port {port} on {host} is taken by another program", "stop it or choose another --port"
            ) from None
        raise EmbeddedError(
            f"cannot listen on {host}:{port}: {error.strerror}", "choose another --host or --port"
        ) from None
