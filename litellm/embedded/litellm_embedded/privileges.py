"""Run a program without root's privileges, and let no program outlive whoever started it.

PostgreSQL refuses to run as root. A box that only has root therefore runs it as `nobody`, through `setpriv` of
util-linux. `nobody` may lack the right to walk to the program or to its data (root's home has mode 700, and clones live
there), so the capability to search directories is added where, and only where, it turns out to be needed: which one is
found out by running `postgres --version` with each in turn, since access also depends on ACLs, mounts and the
container's own limits.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from litellm_embedded.errors import EmbeddedError, one_line

_PR_SET_PDEATHSIG = 1
_PROBE_TIMEOUT_S = 10.0

# Tried in this order. dac_read_search only lets it read and search; some containers keep just the other.
CAPABILITIES = (None, "dac_read_search", "dac_override")


@dataclass(frozen=True)
class Account:
    """A user and group, by number."""

    uid: int
    gid: int


def die_with_parent(death_signal: signal.Signals) -> None:
    """Ask the kernel to send this process `death_signal` when the thread that started it ends.

    The wish survives `exec` of an ordinary program. A change of user drops it, where `setpriv_command` renews it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal))


def setpriv_command(account: Account, capability: str | None, death_signal: signal.Signals) -> list[str]:
    """Return the words to put before a command so that it runs as `account` and dies with its parent."""
    words = [
        "setpriv",
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        "--clear-groups",
        "--no-new-privs",
        f"--pdeathsig={death_signal.name.removeprefix('SIG')}",
    ]
    if capability is not None:
        # access(2) ignores the capabilities of users other than root unless this bit is set, and initdb asks it.
        words.append("--securebits=+no_setuid_fixup")
        words += [f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]
    return words


def account_for(directory: Path) -> Account | None:
    """Return whom PostgreSQL must run as to own `directory`; None when this process is no root and runs it as itself.

    A directory that already belongs to somebody keeps its owner, so that one machine can be used with and without sudo.
    """
    if os.geteuid() != 0:
        return None
    if directory.exists():
        status = directory.stat()
        if status.st_uid != 0:
            return Account(status.st_uid, status.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and this machine has no user 'nobody' to run it as",
            "run this as an ordinary user",
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def find_capability(account: Account, postgres: Path, directory: Path) -> str | None:
    """Return the least capability with which `account` can run `postgres` and enter `directory` (None: it needs none).

    Raises:
        EmbeddedError: if `setpriv` is missing or no capability is enough.
    """
    if shutil.which("setpriv") is None:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and setpriv, which runs it as another user, is missing",
            "install util-linux (apt-get install util-linux) or run this as an ordinary user",
        )
    failures = []
    for capability in CAPABILITIES:
        result = _probe(setpriv_command(account, capability, signal.SIGKILL), postgres, directory)
        if result.returncode == 0:
            return capability
        failures.append(result.stderr)
    raise EmbeddedError(
        f"user {account.uid} can reach neither {postgres} nor {directory} "
        f"with any capability that this machine grants ({one_line(failures[0])})",
        "move the clone to a folder that every user may enter, or run this as an ordinary user",
    )


def _probe(prefix: Sequence[str], postgres: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    script = 'cd "$1" && exec "$0" --version'
    return subprocess.run(
        [*prefix, "/bin/sh", "-c", script, str(postgres), str(directory)],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=_PROBE_TIMEOUT_S,
        check=False,
    )
