"""The programs of the monitoring: found on this machine, else taken from Debian's packages without installing them."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.errors import CorralError

FETCH_TIMEOUT_S = 300.0
_SYSTEM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/usr/sbin")


@dataclass(frozen=True)
class Program:
    """One program.

    Args:
        part: the name of its part in the farm.
        names: what its executable is called, in Debian first, then upstream.
        package: Debian's.
        needs: a file elsewhere that Debian's build of it cannot do without; one that does must be installed.
    """

    part: str
    names: tuple[str, ...]
    package: str
    needs: Path | None = None


PROGRAMS = (
    Program("prometheus", ("prometheus",), "prometheus"),
    Program(
        "alertmanager",
        ("prometheus-alertmanager", "alertmanager"),
        "prometheus-alertmanager",
        needs=Path("/usr/share/prometheus/alertmanager/default.tmpl"),
    ),
    Program("node-exporter", ("prometheus-node-exporter", "node_exporter"), "prometheus-node-exporter"),
    Program("pg-exporter", ("prometheus-postgres-exporter", "postgres_exporter"), "prometheus-postgres-exporter"),
)
PROBER = Program(
    "blackbox-exporter", ("prometheus-blackbox-exporter", "blackbox_exporter"), "prometheus-blackbox-exporter"
)
"""Only where the farm file has addresses to probe."""


def find(wanted: Sequence[Program], folder: Path, environment: Mapping[str, str]) -> dict[str, Path]:
    """Return the executables that are here, by part.

    Args:
        wanted: programs to look for.
        folder: where `fetch` puts them.
        environment: of this process; its PATH comes first.
    """
    path = os.pathsep.join([environment.get("PATH", ""), str(folder), *_SYSTEM_FOLDERS])
    found = {}
    for program in wanted:
        debians = () if program.needs and not program.needs.exists() else program.names[:1]
        names = (*debians, *program.names[1:])
        there = next((hit for name in names if (hit := shutil.which(name, path=path))), None)
        if there:
            found[program.part] = Path(there)
    return found


def missing(wanted: Sequence[Program], found: Mapping[str, Path]) -> list[Program]:
    """Return the programs that are not here and can be fetched."""
    return [program for program in wanted if program.part not in found and program.needs is None]


def to_install(wanted: Sequence[Program], found: Mapping[str, Path]) -> list[Program]:
    """Return the programs that are not here, and that only an installation brings."""
    return [program for program in wanted if program.part not in found and program.needs is not None]


def fetch(wanted: list[Program], folder: Path) -> None:
    """Take executables out of Debian's packages; nothing is installed, no service of the system starts.

    Raises:
        CorralError: there is no apt-get here, or it cannot get them.
    """
    packages = " ".join(program.package for program in wanted)
    mend = f"install them ({packages} on Debian and Ubuntu), or put the programs on the PATH"
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise CorralError(f"{', '.join(program.part for program in wanted)}: not here, and neither is apt-get", mend)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        work = Path(temporary)
        for program in wanted:
            _run(["apt-get", "download", "-q", program.package], work, mend)
        for package in work.glob("*.deb"):
            _run(["dpkg-deb", "-x", str(package), "files"], work, mend)
        for program in wanted:
            executable = next((work / "files").glob(f"usr/*bin/{program.names[0]}"), None)
            if executable is None:
                raise CorralError(f"Debian's package {program.package} has no program {program.names[0]}", mend)
            executable.replace(folder / program.names[0])


def _run(command: list[str], folder: Path, mend: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CorralError(f"{' '.join(command[:2])} did not end within {FETCH_TIMEOUT_S:.0f} s", mend) from None
    if done.returncode:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise CorralError(f"{' '.join(command)} failed: {last}", f"run apt-get update as root, or {mend}")
