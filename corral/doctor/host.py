"""The machine itself: ports, disk, clock, and who may read the secrets."""

import ctypes
import os
import shlex
import shutil
import socket
import stat
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from corral.doctor.findings import Finding
from corral.ports import holder, may_listen

RESERVE_BYTES = 2 * 1024**3
"""Room that databases and logs want beside the models."""

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def check_ports(wanted: Iterable[tuple[str, int]], answering: Collection[int]) -> list[Finding]:
    """Say of each port whether it is free, or who holds it.

    Args:
        wanted: name and number of each.
        answering: those at which the farm's own servers were just seen to answer.
    """
    return [_check_port(name, port, ours=port in answering) for name, port in wanted]


def _check_port(name: str, port: int, *, ours: bool) -> Finding:
    if not may_listen(port):
        mend = f"give one above 1023, or as root: sysctl net.ipv4.ip_unprivileged_port_start={port}"
        return Finding("ports", "error", f"port {port} of {name} is root's", mend)
    if _is_free(port):
        return Finding("ports", "ok", f"port {port} of {name} is free")
    if ours:
        return Finding("ports", "ok", f"port {port} is held by {holder(port)}, which answers as {name}")
    mend = f"stop that, or give {name} another port in the farm file"
    return Finding("ports", "error", f"port {port} of {name} is held by {holder(port)}", mend)


def _is_free(port: int) -> bool:
    """Return whether a server could listen on this port of every address; nothing listens meanwhile."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  # bound, never listened on
        except OSError:
            return False
    return True


def check_disk(folder: Path, needed_bytes: int) -> Finding:
    """Say whether a folder's disk has room for what is still to come, and for growing logs and databases."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    said = f"{_gb(free)} free for {folder}"
    if not os.access(existing, os.W_OK):
        return Finding("disk", "error", f"{existing} cannot be written", "change its owner or mode, or choose another")
    if free < needed_bytes:
        mend = "free some, or choose another folder for the models"
        return Finding("disk", "error", f"{said}, models still to come need {_gb(needed_bytes)}", mend)
    if free < needed_bytes + RESERVE_BYTES:
        mend = f"keep {_gb(RESERVE_BYTES)} free: databases and logs grow"
        return Finding("disk", "warning", said, mend)
    return Finding("disk", "ok", said)


def check_private(paths: Iterable[Path]) -> list[Finding]:
    """Say which files and folders with secrets others than their owner may open."""
    return [_check_private(path) for path in paths]


def _check_private(path: Path) -> Finding:
    try:
        status = path.stat()
    except FileNotFoundError:
        return Finding("secrets", "note", f"{path} is not there yet", "corral init, or make up, writes it")
    except PermissionError:
        return Finding("secrets", "note", f"{path} cannot be looked at by this user", "run as the farm's owner")
    folder = stat.S_ISDIR(status.st_mode)
    right = 0o700 if folder else 0o600
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~right:
        return Finding(
            "secrets",
            "error",
            f"{path} has mode {mode:03o}: others may open it",
            f"chmod {right:o} {shlex.quote(str(path))}",
        )
    if status.st_uid != os.geteuid():
        return Finding("secrets", "note", f"{path} belongs to another user", "run as the farm's owner")
    return Finding("secrets", "ok", f"{path} has mode {mode:03o}")


def clock_state() -> int | None:
    """Return what adjtimex(2) says of the clock; None where there is no such call."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state = int(adjtimex(ctypes.create_string_buffer(512)))  # struct timex, all zero: change nothing
    return None if state < 0 else state


def check_clock_synchronised(state: Callable[[], int | None] = clock_state) -> Finding:
    """Say whether the kernel's clock follows a time server."""
    now = state()
    if now is None:
        return Finding("clock", "note", "this system does not tell whether its clock is synchronised")
    if now == _TIME_ERROR:
        mend = "timedatectl set-ntp true; where only chrony or the host of a virtual machine sets it, that may be meant"
        return Finding("clock", "warning", "the clock is not synchronised: budgets and key expiry go by it", mend)
    return Finding("clock", "ok", "the clock is synchronised")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
