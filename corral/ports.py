"""Ports of a one-machine farm: preferred ones, the last ones used, else the next that is free."""

import json
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

from corral.errors import CorralError

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port of the loopback right now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def is_number(text: str) -> bool:
    """Return whether a text names a TCP port, 1 to 65535."""
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def may_listen(port: int) -> bool:
    """Return whether this user may listen on a port at all, taken or not: those below 1024 are root's, as a rule."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except PermissionError:
            return False
        except OSError:
            return True
    return True


def holder(port: int) -> str:
    """Say what listens on a port, as well as this user may know: `postgres (pid 42)`."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "another process"
    for connection in connections:
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
            and connection.pid
        ):
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                break
    return "another process"


def choose(wanted: Iterable[tuple[str, int]], remembered: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    """Choose a port for each part.

    Args:
        wanted: part names with the port each prefers.
        remembered: ports of the last start; taken again where they are free.

    Returns:
        The port of each part, and a line for each part that does not get the port it prefers.

    Raises:
        CorralError: no free port within 200 of the preferred one.
    """
    chosen: dict[str, int] = {}
    notes: list[str] = []
    for name, preferred in wanted:
        taken = set(chosen.values())
        candidates = [remembered.get(name, preferred), *range(preferred, preferred + 200)]
        port = next((p for p in candidates if 0 < p < 65536 and p not in taken and is_free(p)), None)
        if port is None:
            raise CorralError(
                f"no free port for {name} from {preferred} to {preferred + 199}", "stop what listens there: `ss -ltnp`"
            )
        if port != preferred and preferred not in taken and not is_free(preferred):
            notes.append(f"port {preferred} is taken by {holder(preferred)}: {name} listens on {port} instead")
        chosen[name] = port
    return chosen, notes


def remembered(path: Path) -> dict[str, int]:
    """Return the ports of the last start; none if the file is missing or unreadable."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(port) for name, port in read.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
