"""A whole one-machine farm under test, driven by the `corral` command as a user would."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import psutil

CHECKOUT = Path(__file__).parents[2]
CORRAL = Path(sys.executable).with_name("corral")
LAPTOP = CHECKOUT / "farms" / "laptop.yaml"
UP_TIMEOUT_S = 300


class Farm:
    """A farm in a state folder of its own; ports are the next free ones."""

    def __init__(self, state: Path, environment: Mapping[str, str] = {}) -> None:
        self.state = state
        self.environment = {**os.environ, "COLUMNS": "200", "CORRAL_FILE": str(LAPTOP), **environment}
        self.key = ""
        self.curl = ""
        self.said = ""

    def corral(
        self, *arguments: str, timeout_s: float = 60, check: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command; AssertionError with what it printed if it fails and `check` is set."""
        result = subprocess.run(
            [CORRAL, *arguments],
            env={**self.environment, "CORRAL_STATE": str(self.state), **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or result.returncode == 0, f"corral {shlex.join(arguments)}:\n{result.stdout}{result.stderr}"
        return result

    def up(self, **more: str) -> "Farm":
        """Bring it up; keep the key and the curl line that it printed."""
        try:
            self.said = self.corral("up", timeout_s=UP_TIMEOUT_S, **more).stdout
        except AssertionError as error:
            logs = "\n".join(
                f"--- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in (self.state / "logs").glob("*.log")
            )
            raise AssertionError(f"{error}\n{logs}") from None
        found = re.search(r"\bsk-[\w-]+", self.said)
        self.key = found[0] if found else ""
        self.curl = next((line for line in self.said.splitlines() if line.startswith("curl ")), "")
        return self

    def down(self) -> str:
        """Bring it down; return what the command said."""
        return self.corral("down").stdout

    def status(self) -> dict[str, Any]:
        """Return `corral status --json`."""
        return json.loads(self.corral("status", "--json", check=False).stdout)

    def part(self, name: str) -> dict[str, Any]:
        """Return one part of the status."""
        return next(part for part in self.status()["parts"] if part["name"] == name)

    @property
    def endpoint(self) -> str:
        """The OpenAI base URL."""
        return self.status()["endpoint"]

    def client(self, key: str | None = None) -> openai.OpenAI:
        """Return an OpenAI client that retries nothing, so that a test sees the first answer."""
        return openai.OpenAI(
            base_url=self.endpoint, api_key=self.key if key is None else key, max_retries=0, timeout=60
        )

    def new_key(self, *arguments: str) -> str:
        """Make a key by `corral keys create`."""
        return json.loads(self.corral("keys", "create", *arguments, "--json").stdout)["key"]

    def processes(self) -> list[psutil.Process]:
        """Return every process that carries this farm's mark."""
        return marked_processes(self.state)

    def llama_server(self, part: str) -> psutil.Process:
        """Return the llama-server below a gpu-server."""
        children = psutil.Process(self.part(part)["pid"]).children()
        assert len(children) == 1, children
        return children[0]


def marked_processes(state: Path) -> list[psutil.Process]:
    """Return the processes of the farm with this state folder: by its mark, and PostgreSQL's by where they work."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get("CORRAL_FARM") == str(state) or Path(process.cwd()) == state / "postgres"
            if marked and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@contextmanager
def farm_in(state: Path) -> Iterator[Farm]:
    """Give a farm that is down; whatever a test does with it, nothing of it is left."""
    farm = Farm(state)
    try:
        yield farm
    finally:
        farm.corral("down", check=False)
        deadline = time.monotonic() + 5
        while (left := farm.processes()) and time.monotonic() < deadline:
            psutil.wait_procs(left, timeout=0.5)
        for process in left:
            process.kill()
        assert left == [], f"left running: {left}"
