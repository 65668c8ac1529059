"""A real Redis for a test, gone when the test ends."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.ports import free_port
from support.waiting import wait_until

PASSWORD = "a-password-for-tests"


@dataclass
class Redis:
    """A server that can be killed and frozen, and started again on the same port; it keeps nothing on disk."""

    port: int
    folder: Path
    program: str
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """What tells a rendered gate where it is."""
        return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(self.port), "REDIS_PASSWORD": PASSWORD}

    @property
    def runs(self) -> bool:
        return self._process is not None

    def run(self, *words: str) -> list[str]:
        """Run one command; return the lines of what it says."""
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), "--raw", *words],
            env={**os.environ, "REDISCLI_AUTH": PASSWORD},
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.splitlines()

    def start(self) -> None:
        """Start it as `litellm/compose.yaml` does, and wait until it listens."""
        assert self._process is None, "Redis already runs"
        command = ["redis-server", "--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, "--requirepass", PASSWORD, "--dir", str(self.folder)],
            executable=self.program,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        wait_until(self._listens, 20, "Redis")

    def kill(self) -> None:
        """End it, and all that it holds; nothing happens if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Have it take connections and answer nothing, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        return True


@contextmanager
def running_redis(folder: Path) -> Iterator[Redis]:
    """Start a server; it is gone afterwards."""
    program = shutil.which("redis-server") or shutil.which("redis-check-rdb")  # one program, by two names
    if program is None:
        pytest.skip("redis-server is not here: apt-get install redis-tools")
    server = Redis(free_port(), folder, program)
    try:
        server.start()
        yield server
    finally:
        server.kill()
