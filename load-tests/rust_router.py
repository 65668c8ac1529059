"""A router written in Rust (`smg`, from PyPI), to compare with: what a request costs, and where it goes.

It comes with the dependency group `bench`. It is a router over many servers, not a supervisor of one.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

PROGRAM = Path(sys.executable).with_name("smg")
READY_TIMEOUT_S = 120
ANSWER_TIMEOUT_S = 20


@contextmanager
def rust_router(
    upstream_ports: Sequence[int], free_port: Callable[[], int], log: Path, key: str = ""
) -> Iterator[tuple[int, int] | None]:
    """Run the router over servers, by its default policy (`cache_aware`); gives its pid and port, or None.

    Args:
        upstream_ports: of the servers, on the loopback.
        free_port: gives one.
        log: what the router prints.
        key: of the servers; empty: they ask for none.
    """
    if not PROGRAM.exists():
        yield None
        return
    port = free_port()
    command = [
        PROGRAM, "launch", "--worker-urls", *(f"http://127.0.0.1:{one}" for one in upstream_ports),
        "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port()), "--log-level", "warn",
        *(["--api-key", key] if key else []),
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _answers(port, key):
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


def _answers(port: int, key: str) -> bool:
    """Say whether a chat gets through: it must have learnt of its server first."""
    body = {"model": "chat", "max_tokens": 1, "messages": [{"role": "user", "content": "Say hello."}]}
    try:
        url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"authorization": f"Bearer {key}"} if key else {}
        return httpx.post(url, json=body, headers=headers, timeout=ANSWER_TIMEOUT_S).status_code == 200
    except httpx.TransportError:
        return False
