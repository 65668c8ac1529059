"""Docker's engine for a test run: a data folder, a socket and a cgroup of its own.

`scripts/test-compose` gives it namespaces of its own too, so that nothing of it is left, or seen, on the machine.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
COMPOSE = Path(sys.executable).with_name("docker-compose")
ENGINE_START_S = 60
ENGINE_STOP_S = 120


class DockerHost:
    """An engine that can be stopped and started again, and the clients that talk to it."""

    def __init__(self, folder: Path, cgroup: str, *, network: bool) -> None:
        self._folder = folder
        self._engine: subprocess.Popen[bytes] | None = None
        self._socket = f"unix://{folder}/docker.sock"
        engine = shutil.which("dockerd")
        if engine is None:
            raise AssertionError("dockerd is missing; apt-get install docker.io")
        # Not the first `docker` on PATH: a newer client than the engine's wants a buildx for BuildKit.
        beside = Path(engine).resolve().parent.parent / "bin" / "docker"
        self._client = str(beside) if beside.exists() else "docker"
        self._command = [
            engine, "--host", self._socket, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
            "--pidfile", f"{folder}/docker.pid", "--cgroup-parent", cgroup, "--storage-driver", "overlay2",
            *([] if network else ["--bridge", "none", "--iptables=false", "--ip-forward=false"]),
        ]  # fmt: skip

    @property
    def log(self) -> Path:
        """The engine's own output."""
        return self._folder / "dockerd.log"

    def start(self) -> None:
        """Start the engine and wait until it answers."""
        # As /run after a reboot: a pid file of an engine that was killed may name a process of today.
        shutil.rmtree(self._folder / "exec", ignore_errors=True)
        (self._folder / "docker.pid").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            engine = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: engine.poll() is not None or self._answers(), ENGINE_START_S, "Docker's engine")
        assert engine.poll() is None, f"dockerd ended:\n{self.log.read_text(errors='replace')[-3000:]}"
        self._engine = engine

    def _answers(self) -> bool:
        return self.docker("version", check=False).returncode == 0

    def stop(self) -> None:
        """Stop the engine as a shutdown of the host does: containers are stopped, and come back with it."""
        if self._engine is None:
            return
        self._engine.send_signal(signal.SIGTERM)
        try:
            self._engine.wait(ENGINE_STOP_S)
        except subprocess.TimeoutExpired:
            self._engine.kill()
            self._engine.wait()
        self._engine = None

    def docker(
        self, *arguments: str | Path, timeout_s: float = 120, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker`; AssertionError with what it printed if it fails and `check` is set."""
        return self._run([self._client, *arguments], environment, timeout_s, check)

    def compose(
        self, files: Sequence[Path], *arguments: str, timeout_s: float = 240, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` on these files, with nothing from the environment but what is given."""
        named = [word for file in files for word in ("--file", str(file))]
        return self._run([str(COMPOSE), *named, *arguments], environment, timeout_s, check)

    def commands(self, folder: Path) -> dict[str, str]:
        """Put a `docker` for this engine, Compose included, into a folder; return what it has to be run with."""
        folder.mkdir(exist_ok=True)
        docker = folder / "docker"
        compose = f'if [ "$1" = compose ]; then shift; exec {COMPOSE} "$@"; fi'
        docker.write_text(f'#!/bin/sh\n{compose}\nexec {self._client} "$@"\n')
        docker.chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}", "DOCKER_HOST": self._socket}

    def _run(
        self, command: Sequence[str | Path], more: Mapping[str, str], timeout_s: float, check: bool
    ) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "DOCKER_HOST": self._socket, **more}
        result = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
        assert not check or result.returncode == 0, f"{command}:\n{result.stdout[-6000:]}{result.stderr[-6000:]}"
        return result

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine knows of a container or an image."""
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", name).stdout)
        return found[0]
