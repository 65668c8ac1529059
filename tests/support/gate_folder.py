"""The folder of the gate's host as its owner has it, for a farm in containers: compose.yaml, scripts, a `docker`."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.compose_farm import ContainerFarm
from support.docker_host import CHECKOUT
from support.guide import Step, read, script

SCRIPTS = CHECKOUT / "litellm" / "scripts"


class GateFolder:
    """A folder with `litellm/` in it, whose compose.yaml is that of a running farm."""

    def __init__(self, farm: ContainerFarm, folder: Path) -> None:
        self._farm = farm
        self._folder = folder
        self.path = folder / "litellm"
        self.path.mkdir()
        (self.path / "scripts").symlink_to(SCRIPTS)
        self.compose_file = self.path / "compose.yaml"
        self.compose_file.write_text(farm.gate_host.compose("config").stdout)

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self._farm.host.commands(self._folder / "bin"), **self._farm.gate_host.environment}

    def replace(self, old: str, new: str) -> None:
        """Change the compose file; AssertionError where there is nothing to change."""
        text = self.compose_file.read_text()
        assert old in text
        self.compose_file.write_text(text.replace(old, new))

    def run(self, name: str, *words: str, rc: int = 0) -> str:
        """Run one of litellm/scripts; return what it printed."""
        done = self._run([str(SCRIPTS / name), *words])
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout + done.stderr

    def follow(self, lines: Sequence[str], instead: Mapping[str, str]) -> list[Step]:
        """Run lines of a document, from the folder above `litellm/`; each must succeed."""
        text = script(lines, str(self._folder), instead, state=str(self._folder / "state"))
        steps = read(lines, self._run(["bash", "-c", text]).stdout)
        for step in steps:
            assert step.code == 0, f"{step.line}\n{step.output}"
        return steps

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=280, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
