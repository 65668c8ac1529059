"""Tells the other workers of a proxy which prompts went where, so that all believe the same of the servers.

Servers report their load, but not what they remember; a worker that has not seen the first turn of a conversation
could not know where it is remembered. And of a burst, each worker would send its part to the same server. Each worker
has a Unix datagram socket in a folder that only its user may enter, named after the process that started them all;
what it picks, it sends to the others as digests and counts, no text. Nothing is promised: what is lost costs a prompt
read twice, and a worker alone sends nothing.

Where such sockets cannot be had, the draw of `choice` still sends a conversation that nobody remembers to the same
server from every worker.
"""

import asyncio
import contextlib
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from corral_routing.prompts import Prompt

SEEK_S = 2.0
"""How often it looks for workers that came or went."""
MOST_NODES = 1024
MOST_BYTES = 32 * 1024
_HEAD = struct.Struct("!BBHHQ")  # version, kind, length of the server's name, number of nodes, anchor
_NODE = struct.Struct("!QI")
_VERSION = 1
_PICKED, _FORGOTTEN = 1, 2

Heard = Callable[[str, Prompt], None]


def packed(server: str, prompt: Prompt, *, forgotten: bool = False) -> bytes | None:
    """Return a message, or None if the prompt is too long for one."""
    name = server.encode("utf-8", "surrogatepass")
    if len(prompt.nodes) > MOST_NODES or len(name) > 1024:
        return None
    head = _HEAD.pack(_VERSION, _FORGOTTEN if forgotten else _PICKED, len(name), len(prompt.nodes), prompt.anchor)
    chars = (min(count, 2**32 - 1) for count in prompt.chars)
    body = b"".join(_NODE.pack(node, count) for node, count in zip(prompt.nodes, chars, strict=True))
    return head + name + body


def unpacked(message: bytes) -> tuple[str, Prompt, bool] | None:
    """Return what a message tells: the server, the prompt, whether it was forgotten; None if it is none of ours."""
    try:
        version, kind, name_length, count, anchor = _HEAD.unpack_from(message)
        at = _HEAD.size + name_length
        name = message[_HEAD.size : at].decode("utf-8", "surrogatepass")
        if version != _VERSION or not 0 < count <= MOST_NODES or len(message) != at + count * _NODE.size:
            return None
        nodes, chars = zip(*_NODE.iter_unpack(message[at:]), strict=True)
    except (struct.error, UnicodeDecodeError):
        return None
    return name, Prompt(nodes, chars, anchor), kind == _FORGOTTEN


class Gossip:
    """One worker's ear and mouth. `heard` and `forgotten` are called with what others tell."""

    def __init__(self, folder: Path, heard: Heard, forgotten: Heard) -> None:
        self._folder = folder
        self._heard = heard
        self._forgotten = forgotten
        self._own = folder / f"{os.getpid()}.sock"
        self._socket: socket.socket | None = None
        self._others: tuple[str, ...] = ()

    async def run(self) -> None:
        """Listen, and look for others, until cancelled.

        Raises:
            OSError: The folder or the socket cannot be had, or belongs to somebody else.
        """
        loop = asyncio.get_running_loop()
        _private(self._folder)
        _sweep(self._folder)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.setblocking(False)
            self._own.unlink(missing_ok=True)
            own.bind(str(self._own))
            self._socket = own
            loop.add_reader(own, self._listen)
            try:
                while True:
                    self._seek()
                    await asyncio.sleep(SEEK_S)
            finally:
                loop.remove_reader(own)
                self._socket = None
                self._own.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # others are still in it
                    self._folder.rmdir()

    def tell(self, server: str, prompt: Prompt, *, forgotten: bool = False) -> None:
        """Tell the others that a prompt went to a server, or was not processed there after all."""
        if self._socket is None or not self._others:
            return
        message = packed(server, prompt, forgotten=forgotten)
        if message is None:
            return
        for other in self._others:
            with contextlib.suppress(OSError):  # it is gone, or has not kept up
                self._socket.sendto(message, other)

    def _seek(self) -> None:
        others = []
        for path in self._folder.glob("*.sock"):
            if path == self._own or not path.stem.isdigit():
                continue
            if Path(f"/proc/{path.stem}").exists() or not Path("/proc/self").exists():
                others.append(str(path))
            else:
                path.unlink(missing_ok=True)  # of a worker that was killed
        self._others = tuple(others)

    def _listen(self) -> None:
        for _ in range(64):  # then it is others' turn
            try:
                message = self._socket.recv(MOST_BYTES) if self._socket else b""
            except OSError:
                return
            told = unpacked(message)
            if told is not None:
                server, prompt, forgotten = told
                (self._forgotten if forgotten else self._heard)(server, prompt)


def folder_of_workers() -> Path:
    """Return the folder of the workers that this process's parent started."""
    return Path(tempfile.gettempdir()) / f"corral-routing-{os.getuid()}-{os.getppid()}"


def _sweep(folder: Path) -> None:
    """Remove what earlier proxies left: a server that ends by a signal cleans nothing up."""
    kind, _, _ = folder.name.rpartition("-")
    for other in folder.parent.glob(f"{kind}-*"):
        pid = other.name.rpartition("-")[2]
        if not pid.isdigit() or Path(f"/proc/{pid}").exists() or not Path("/proc/self").exists():
            continue
        with contextlib.suppress(OSError):
            _private(other)
            for left in other.glob("*.sock"):
                left.unlink()
            other.rmdir()


def _private(folder: Path) -> None:
    """Make the folder, or see that it is this user's alone.

    Raises:
        OSError: It is not.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
