"""Asks a part whether it serves: an HTTP GET or PostgreSQL's first question, always with a deadline."""

import asyncio
import http.client
import json
import struct
import urllib.error
import urllib.request
from dataclasses import dataclass

import psutil

from corral.parts import Part

TIMEOUT_S = 3.0
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""What a client may say before its name; a postmaster that works answers one byte, also when it is full or recovers."""

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy of the environment


@dataclass(frozen=True)
class Answer:
    """What a part said of itself.

    Args:
        ready: it serves.
        detail: one line for people; empty if it said nothing.
        gave_up: it says itself that it will not come up without help.
    """

    ready: bool
    detail: str = ""
    gave_up: bool = False


async def probe(part: Part) -> Answer:
    """Ask a service once; takes at most `TIMEOUT_S`."""
    if not part.ready_path:
        return await _ask_postgres(part)
    return await asyncio.to_thread(_get, f"http://{part.address}{part.ready_path}")


def listener_is(pid: int, port: int) -> bool:
    """Say whether it is the process `pid`, or one below it, that listens on a port.

    Another program may have taken the port since it was chosen, and would answer in the part's place. Where the
    kernel does not tell, the part is given the benefit of the doubt.
    """
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    for member in family:
        try:
            sockets = member.net_connections(kind="tcp")
        except psutil.AccessDenied:
            return True
        except psutil.NoSuchProcess:
            continue  # a child of a moment
        if any(socket.status == psutil.CONN_LISTEN and socket.laddr.port == port for socket in sockets):
            return True
    return False


async def _ask_postgres(part: Part) -> Answer:
    """Ask as a client does who would speak TLS (PostgreSQL's protocol, SSLRequest).

    A connect alone the kernel would grant in place of a PostgreSQL that hangs.
    """
    host, _, port = part.address.partition(":")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(_SSL_REQUEST)
                said = await reader.read(1)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return Answer(ready=False)
    return Answer(ready=said in (b"S", b"N"))


def _get(url: str) -> Answer:
    try:
        with _opener.open(url, timeout=TIMEOUT_S) as response:
            return understand(response.status, response.read(65536))
    except urllib.error.HTTPError as error:
        return understand(error.code, error.read(65536))
    except (OSError, http.client.HTTPException):
        return Answer(ready=False)


def understand(status: int, body: bytes) -> Answer:
    """Read a health answer: 200 is ready; otherwise a gpu-server's body says what it is at."""
    if status == 200:
        return Answer(ready=True)
    try:
        said = json.loads(body)
        state, detail = str(said.get("state", "")), str(said.get("detail") or "")
    except (ValueError, AttributeError):
        return Answer(ready=False, detail=f"answers {status}")
    return Answer(ready=False, detail=detail or state, gave_up=state == "failed")
