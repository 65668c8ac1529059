"""Tells the other workers of a proxy which prompts went where, so that all believe the same of the servers.

Servers report their load, but not what they remember; a worker that has not seen the first turn of a conversation
could not know where it is remembered. And of a burst, each worker would send its part to the same server. Each worker
has a Unix datagram socket in a folder that only its user may enter, named after the process that started them all;
what it picks, and when that is over, it sends to the others as digests and counts, no text. Nothing is promised: what
is lost costs a prompt read twice, and a worker alone sends nothing.

| message   | tells                                    | carries                          |
|-----------|------------------------------------------|----------------------------------|
| HELLO     | a worker listens from now on             |                                  |
| PICKED    | a request goes to a server               | request, server, prompt          |
| ANSWERED  | it was answered: the server is free of it | request, server                  |
| LEFT      | it is over by its sender's doing         | request, server                  |
| FORGOTTEN | the server did not process it after all  | request, server, prompt          |

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
from enum import IntEnum
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from corral_routing.prompts import Prompt

SEEK_S = 2.0
"""How often it looks for workers that came or went."""
MOST_NODES = 1024
MOST_BYTES = 32 * 1024
_HEAD = struct.Struct("!BBHHQQ")  # version, kind, length of the server's name, number of nodes, anchor, request
_NODE = struct.Struct("!QI")
_VERSION = 2


class Kind(IntEnum):
    """What a message tells."""

    HELLO = 0
    PICKED = 1
    ANSWERED = 2
    LEFT = 3
    FORGOTTEN = 4


WITH_PROMPT = frozenset({Kind.PICKED, Kind.FORGOTTEN})


class Told(NamedTuple):
    """A message: `call` stands for the request, alike in all that is told of it; `prompt` where its kind has one."""

    kind: Kind
    call: str
    server: str
    prompt: Prompt | None


def packed(kind: Kind, call: str = "", server: str = "", prompt: Prompt | None = None) -> bytes | None:
    """Return a message, or None if the prompt is too long for one."""
    name = server.encode("utf-8", "surrogatepass")
    nodes, chars, anchor = (prompt.nodes, prompt.chars, prompt.anchor) if prompt else ((), (), 0)
    if len(nodes) > MOST_NODES or len(name) > 1024:
        return None
    number = int.from_bytes(blake2b(call.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    head = _HEAD.pack(_VERSION, kind, len(name), len(nodes), anchor, number)
    counts = (min(count, 2**32 - 1) for count in chars)
    return head + name + b"".join(_NODE.pack(node, count) for node, count in zip(nodes, counts, strict=True))


def unpacked(message: bytes) -> Told | None:
    """Return what a message tells; None if it is none of ours."""
    try:
        version, number, name_length, count, anchor, call = _HEAD.unpack_from(message)
        at = _HEAD.size + name_length
        name = message[_HEAD.size : at].decode("utf-8", "surrogatepass")
        if version != _VERSION or count > MOST_NODES or len(message) != at + count * _NODE.size:
            return None
        kind = Kind(number)
        if (kind in WITH_PROMPT) != bool(count):
            return None
        nodes, chars = zip(*_NODE.iter_unpack(message[at:]), strict=True) if count else ((), ())
    except (struct.error, ValueError):  # a UnicodeDecodeError is one
        return None
    return Told(kind, f"other {call:016x}", name, Prompt(nodes, chars, anchor) if count else None)


class Gossip:
    """One worker's ear and mouth. `heard` is called with what others tell, but for their hellos."""

    def __init__(self, folder: Path, heard: Callable[[Told], None]) -> None:
        self._folder = folder
        self._heard = heard
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
                self._seek()
                self._send(packed(Kind.HELLO))  # what they pick before they look again is told to this one too
                while True:
                    await asyncio.sleep(SEEK_S)
                    self._seek()
            finally:
                loop.remove_reader(own)
                self._socket = None
                self._own.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # others are still in it
                    self._folder.rmdir()

    def tell(self, kind: Kind, call: str, server: str, prompt: Prompt | None = None) -> None:
        """Tell the others what became of a request; a message of a kind that has a prompt needs one."""
        if self._others and (prompt is not None or kind not in WITH_PROMPT):
            self._send(packed(kind, call, server, prompt if kind in WITH_PROMPT else None))

    def _send(self, message: bytes | None) -> None:
        if self._socket is None or message is None:
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
            if told is None:
                continue
            if told.kind is Kind.HELLO:
                self._seek()
            else:
                self._heard(told)


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
