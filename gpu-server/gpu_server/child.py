"""A running llama-server: its process group, its output, its end."""

import asyncio
import codecs
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence

from gpu_server.lifeline import tie_to

MAX_LINE_CHARS = 4000
_READ_BYTES = 65536


class ChildProcess:
    """A child in a process group of its own that dies with this process; made by `spawn`."""

    def __init__(self, process: Process, on_line: Callable[[str], None]) -> None:
        self._process = process
        self._reader = asyncio.create_task(self._read(on_line), name="llama-server output")

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._process.pid

    async def wait(self) -> int:
        """Return the exit code (negative: the signal) once it ended and its output is read."""
        code = await self._process.wait()
        # A grandchild that inherited the pipe would keep it open; what it says is not waited for.
        await asyncio.wait([self._reader], timeout=0.5)
        self._reader.cancel()
        return code

    def send(self, sign: signal.Signals) -> None:
        """Send `sign` to the whole process group; nothing happens if it is gone."""
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, sign)
            except ProcessLookupError:
                return

    async def _read(self, on_line: Callable[[str], None]) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while chunk := await stream.read(_READ_BYTES):
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for line in lines:
                on_line(line.rstrip("\r")[:MAX_LINE_CHARS])
            rest = rest[-MAX_LINE_CHARS:]
        if rest:
            on_line(rest)


async def spawn(argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> ChildProcess:
    """Start `argv` in a new session, its output (both streams) given to `on_line` line by line.

    Raises:
        OSError: The program cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env=dict(env),
        start_new_session=True,
        # Forking a process with threads is safe here: the function only makes a few system calls.
        preexec_fn=tie_to(os.getpid()),
    )
    return ChildProcess(process, on_line)
