"""The fake llama-server as a gpu-server's LLAMA_SERVER, and a hand on its control port."""

import shlex
import sys
from pathlib import Path
from typing import Any

import httpx

from support.ports import free_port
from support.waiting import wait_until

SCRIPT = Path(__file__).resolve().parents[1] / "fakes" / "llama_server.py"


class FakeLlama:
    """One launcher, rewritten by `plan` for the generations to come, and the control port they all take."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.launcher = directory / "llama-server"
        self._control = httpx.Client(base_url=f"http://127.0.0.1:{free_port()}", timeout=5, trust_env=False)
        self.plan(*flags)

    def plan(self, *flags: str) -> None:
        """Start every generation from now on with these flags of the fake's own."""
        command = [sys.executable, str(SCRIPT), "--control", str(self._control.base_url.port), *flags]
        fresh = self.launcher.with_suffix(".new")
        fresh.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        fresh.chmod(0o755)
        fresh.replace(self.launcher)  # never half-written, and never one that is being run

    def set(self, **faults: object) -> None:
        """Change the present generation's faults."""
        self._post("/set", faults)

    def say(self, line: str) -> None:
        """Have it print a line."""
        try:
            self._post("/say", {"line": line})
        except httpx.HTTPError:
            return  # it was killed for it before it answered

    def end(self, **how: int) -> None:
        """Have it die: `signal=11` or `code=1`."""
        try:
            self._post("/end", how)
        except httpx.HTTPError:
            return  # it died before it answered

    def seen(self) -> dict[str, Any]:
        """Return what it has seen: requests taken, slots at work, its pid."""
        return dict(self._control.get("/seen").json())

    def close(self) -> None:
        """Close the control connection."""
        self._control.close()

    def _post(self, path: str, document: object) -> None:
        self._control.post(path, json=document).raise_for_status()

    def idle(self, timeout_s: float = 3) -> None:
        """Wait until none of its slots works."""
        wait_until(lambda: self.seen()["busy"] == 0, timeout_s, "the fake's slots to be idle")
