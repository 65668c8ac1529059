"""The installation, with real npm: from the lock files, once, offline afterwards, one at a time, errors in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from litellm_embedded.errors import EmbeddedError
from litellm_embedded.install import GENERATE_FOLDER, exclusive, npm_step
from support.embedded import install_engine
from support.ports import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the folder of Prisma's command line with nothing installed in it."""
    copy = tmp_path / "prisma-generate"
    shutil.copytree(GENERATE_FOLDER, copy, ignore=shutil.ignore_patterns("node_modules"))
    return copy


def no_registry(monkeypatch: pytest.MonkeyPatch, cache: Path) -> int:
    """Send npm to a port where nobody listens, with nothing in its cache."""
    port = free_port()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{port}/")
    monkeypatch.setenv("npm_config_cache", str(cache))
    return port


def test_packages_are_installed_once_and_again_when_they_are_gone(folder: Path) -> None:
    npm_step("packages", folder).do()
    assert npm_step("packages", folder).is_done()
    assert (folder / "node_modules" / "prisma" / "build" / "index.js").exists()
    assert not list(folder.glob("node_modules/@prisma/engines/*engine*.node")), "an install script has run"
    shutil.rmtree(folder / "node_modules")
    assert not npm_step("packages", folder).is_done()


def test_a_machine_without_node_uses_the_one_from_the_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    npm_step("packages", folder).do()
    assert (folder / "node_modules" / "prisma" / "build" / "index.js").exists()


def test_an_unreachable_registry_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    port = no_registry(monkeypatch, tmp_path / "cache")
    with pytest.raises(EmbeddedError, match="ECONNREFUSED") as caught:
        npm_step("packages", folder).do()
    assert str(port) in str(caught.value)
    assert "network" in caught.value.mend
    assert "\n" not in str(caught.value)
    assert not npm_step("packages", folder).is_done()


def test_installed_again_it_says_nothing_and_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_engine()
    no_registry(monkeypatch, tmp_path / "cache")
    command = [sys.executable, "-m", "litellm_embedded", "install"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == result.stderr == ""


def test_two_at_once_take_turns(tmp_path: Path) -> None:
    waiter = (
        "import sys; from pathlib import Path; from litellm_embedded.install import exclusive\n"
        "with exclusive(Path(sys.argv[1]), lambda line: print(line, flush=True)): print('mine', flush=True)"
    )
    with exclusive(tmp_path, print):
        second = subprocess.Popen(
            [sys.executable, "-c", waiter, str(tmp_path)], stdout=subprocess.PIPE, text=True, close_fds=True
        )
        assert second.stdout is not None
        assert second.stdout.readline() == "waiting for another installation to finish\n"
        assert second.poll() is None
    output, _ = second.communicate(timeout=30)
    assert output == "mine\n"


def test_a_child_that_outlives_a_killed_installation_keeps_the_lock(tmp_path: Path) -> None:
    """npm goes on writing after its parent was killed: the next installation must wait for it."""
    program = (
        "import sys, subprocess; from pathlib import Path\n"
        "from litellm_embedded.install import exclusive, run_child\n"
        "with exclusive(Path(sys.argv[1]), print): run_child(['/bin/cat', sys.argv[2]], Path('/'), {}, 200)"
    )
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(pipe)])
    writer = wait_until(lambda: open_writer(pipe), 30, "the child to read")
    parent.kill()
    parent.wait()
    said: list[str] = []

    def end_child_and_note(line: str) -> None:
        said.append(line)
        os.close(writer)

    with exclusive(tmp_path, end_child_and_note):
        pass
    assert said == ["waiting for another installation to finish"]


def open_writer(pipe: Path) -> int:
    """Open a named pipe for writing; refused as long as nobody reads."""
    return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
