"""A real llama-server with an embedding model, as a child process that ends with the test or with the tester."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.ports import free_port
from support.waiting import wait_until

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


@contextmanager
def embedding_server(model: Path, log: Path) -> Iterator[str]:
    """Serve `model` and yield the server's base URL; its output goes to `log`."""
    port = free_port()
    command = [sys.executable, "-c", CHILD, str(model), str(port)]
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"

            def healthy() -> bool:
                assert child.poll() is None, f"the server ended with {child.returncode}: see {log}"
                return httpx.get(f"{url}/health", timeout=2).status_code == httpx.codes.OK

            wait_until(healthy, START_TIMEOUT_S, f"{url} to be healthy")
            yield url
        finally:
            child.kill()
            child.communicate(timeout=STOP_TIMEOUT_S)


CHILD = """
import sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
params.embedding = True
params.n_ctx = params.n_batch = params.n_ubatch = 512
params.n_parallel = 1
params.cpuparams.n_threads = 2
server = xllamacpp.Server(params)
sys.stdin.read()  # ends when the parent does
"""
