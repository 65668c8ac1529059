"""A router written in Rust (`smg`, from PyPI) before the same fake llama-server: what the wrapper is measured against.

It comes with the dependency group `bench`. It is a router over many servers, not a supervisor of one; the comparison
is of what each costs a request and a token on its way.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PROGRAM = Path(sys.executable).with_name("smg")
READY_TIMEOUT_S = 40


@contextmanager
def rust_router(upstream_port: int, free_port: Callable[[], int], log: Path) -> Iterator[tuple[int, int] | None]:
    """Run the router; gives its pid and port, None where it is not installed."""
    if not PROGRAM.exists():
        yield None
        return
    port = free_port()
    command = [
        PROGRAM, "launch", "--worker-urls", f"http://127.0.0.1:{upstream_port}", "--host", "127.0.0.1",
        "--port", str(port), "--prometheus-port", str(free_port()), "--log-level", "warn",
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"smg did not become ready: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    """Say whether a chat gets through: it must have learnt of its server first."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "Say hello."}]}
    try:
        return httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=2).status_code == 200
    except httpx.TransportError:
        return False
