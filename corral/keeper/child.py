"""A part's process: started in a group of its own, tied to the keeper's life, stopped for sure."""

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from corral.parts import Part

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
LOG_LIMIT_BYTES = 16 * 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A running process of a part.

    Its output goes straight into its log file, so that it is not lost with the keeper. The kernel sends it the
    part's stop signal if the keeper dies, however that happens.
    """

    def __init__(self, part: Part, log_file: Path) -> None:
        """Start the process; OSError if it cannot be started."""
        self.part = part
        self.started = time.monotonic()
        rotate(log_file)
        keeper_pid = os.getpid()

        def tie_to_keeper() -> None:
            _libc.prctl(PR_SET_PDEATHSIG, part.stop_signal)
            if os.getppid() != keeper_pid:  # the keeper died in between
                os._exit(1)

        with log_file.open("ab") as log:
            self.log_start = log.tell()
            self._process = subprocess.Popen(
                part.argv,
                env=dict(part.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=tie_to_keeper,  # only a system call: safe in the forked child
                cwd=log_file.parent,
            )
        self.pid = self._process.pid
        try:
            self.created = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            self.created = time.time()

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    async def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until it ends; return its exit code, or None after `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (code := self.exit_code) is None:
            if deadline is not None and time.monotonic() >= deadline:
                return None
            await asyncio.sleep(0.05)
        return code

    async def stop(self, timeout_s: float | None = None) -> None:
        """Ask it to stop, then, after `timeout_s` (None: the part's deadline), kill its whole process group."""
        if self.exit_code is None:
            self._signal(self.part.stop_signal)
            await self.wait(self.part.stop_timeout_s if timeout_s is None else timeout_s)
        self._signal(signal.SIGKILL, group=True)  # also what it left behind in its group
        await self.wait(5)

    def _signal(self, number: int, *, group: bool = False) -> None:
        try:
            if group:
                os.killpg(self.pid, number)
            else:
                self._process.send_signal(number)
        except ProcessLookupError:
            pass


def rotate(log_file: Path) -> None:
    """Copy a log that is over its limit to `NAME.1` and empty it.

    Safe while its process writes: the file is open for appending. Lines written during the copy are lost.
    """
    if log_file.exists() and log_file.stat().st_size > LOG_LIMIT_BYTES:
        shutil.copyfile(log_file, log_file.with_name(log_file.name + ".1"))
        os.truncate(log_file, 0)


def last_lines(log_file: Path, start: int, count: int = 3) -> list[str]:
    """Return the last non-empty lines that were written after byte `start`."""
    try:
        with log_file.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(start, file.tell() - 32768))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return [f"no log: {error}"]
    return [line.strip() for line in text.splitlines() if line.strip()][-count:]
