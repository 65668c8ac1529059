"""What `make up` says before there is a `corral`: the bootstrap on machines that lack something."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.ports import free_port

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which nothing is installed, as far as the bootstrap reads it."""
    copy = tmp_path / "checkout"
    for name in ("pyproject.toml", "uv.lock", "gpu-server/pyproject.toml", "litellm/embedded/pyproject.toml"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, copy / name)
    shutil.copytree(CHECKOUT / "scripts", copy / "scripts")
    (tmp_path / "bin").mkdir()
    return copy


def program(checkout: Path, name: str, script: str) -> Path:
    """Put a program of this name first on the bootstrap's PATH."""
    path = checkout.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def refusal(checkout: Path, **environment: str) -> str:
    """Run the bootstrap where it must refuse; return its one line."""
    path = f"{checkout.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["sh", "scripts/bootstrap.sh"],
        cwd=checkout,
        env={**os.environ, "HOME": str(checkout.parent), "PATH": path, "PYTHON": sys.executable, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1, result
    assert not (checkout / ".venv").exists(), "half installed"
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    return errors[0]


def test_a_python_too_old_is_named_with_what_to_install(checkout: Path) -> None:
    old = program(checkout, "old-python", '[ "$1" = --version ] && echo "Python 3.9.2" || exit 1')
    line = refusal(checkout, PYTHON=str(old))
    assert "needs Python 3.11 to 3.13, found: Python 3.9.2; install python3.11 or later" in line


def test_a_python_without_ensurepip_gets_the_one_apt_line(checkout: Path) -> None:
    """As Debian's: it can run, but its -venv package is not installed; and here apt cannot install it."""
    script = f'case "$2" in *ensurepip*) exit 1 ;; esac; exec {sys.executable} "$@"'
    bare = program(checkout, "bare-python", script)
    program(checkout, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    version = f"python3.{sys.version_info.minor}-venv"
    line = refusal(checkout, PYTHON=str(bare))
    assert f"apt-get install {version}" in line
    assert "ensurepip" in line or "Unable to locate package" in line


def test_a_full_disk_is_noticed_before_anything_is_fetched(checkout: Path) -> None:
    program(checkout, "df", "echo header; echo '/dev/x 1000000 900000 102400 90% /'")
    line = refusal(checkout)
    assert "no room on disk: the installation takes about 3000 MiB, 100 MiB are free" in line
    assert not (checkout / ".tools").exists()


def test_a_registry_that_cannot_be_reached_is_said_in_one_line(checkout: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/simple"
    line = refusal(checkout, PIP_INDEX_URL=nobody, PIP_FIND_LINKS="", PIP_RETRIES="0", PIP_NO_INDEX="")
    assert "the Python package registry cannot be reached" in line
    assert "run the same again" in line
