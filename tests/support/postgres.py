"""A real PostgreSQL for a test, started as the farm starts it and gone when the test ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from support.ports import free_port
from support.waiting import wait_until

PASSWORD = "a-password-for-tests"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


def postgres_command(data: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "litellm_embedded", "postgres", "--data", str(data), "--port", str(port)]


def url_of(port: int, database: str = "litellm") -> str:
    return f"postgresql://litellm:{PASSWORD}@127.0.0.1:{port}/{database}"


def answers(port: int) -> bool:
    """Say whether PostgreSQL takes connections; its refusal is raised."""
    with psycopg.connect(url_of(port, "postgres"), connect_timeout=2):
        return True


def processes_in(directory: Path) -> list[int]:
    """The processes that work in `directory`, as all of a PostgreSQL server's do in its data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").samefile(directory):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@dataclass
class Postgres:
    """A server that can be stopped, killed and started again on the same port and data."""

    data: Path
    port: int
    log: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Of the database `litellm`."""
        return url_of(self.port)

    @property
    def pid(self) -> int:
        assert self._process is not None, "PostgreSQL is stopped"
        return self._process.pid

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None, "PostgreSQL already runs"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                postgres_command(self.data, self.port),
                env={**os.environ, "POSTGRES_PASSWORD": PASSWORD},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, START_TIMEOUT_S, "PostgreSQL to answer")

    def stop(self) -> None:
        """Stop it as the farm does (SIGINT); nothing happens if it does not run."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        if self.data.exists():
            wait_until(lambda: not processes_in(self.data), STOP_TIMEOUT_S, "PostgreSQL's children to end")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL exited with {self._process.returncode}: {self.output()}")
        return answers(self.port)


@contextmanager
def running_postgres(directory: Path) -> Iterator[Postgres]:
    """Start PostgreSQL with its data under `directory`, with an empty database `litellm`; stop it whatever happens."""
    server = Postgres(data=directory / "postgres", port=free_port(), log=directory / "postgres.log")
    try:
        server.start()
        with psycopg.connect(url_of(server.port, "postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE litellm")
        yield server
    finally:
        server.stop()
