"""A real Redis for a test, gone when the test ends."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.ports import free_port
from support.waiting import wait_until

PASSWORD = "a-password-for-tests"


@dataclass(frozen=True)
class Redis:
    """A running server."""

    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What tells a rendered gate where it is."""
        return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(self.port), "REDIS_PASSWORD": PASSWORD}

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


@contextmanager
def running_redis(folder: Path) -> Iterator[Redis]:
    """Start a server as `litellm/compose.yaml` does."""
    program = shutil.which("redis-server") or shutil.which("redis-check-rdb")  # one program, by two names
    if program is None:
        pytest.skip("redis-server is not here: apt-get install redis-tools")
    port = free_port()
    command = ["redis-server", "--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--requirepass", PASSWORD, "--dir", str(folder)],
        executable=program,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_until(lambda: _listens(port), 20, "Redis")
        yield Redis(port)
    finally:
        process.kill()
        process.wait(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
