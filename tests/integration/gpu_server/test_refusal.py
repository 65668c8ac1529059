"""A gpu-server with wrong settings, where something would start it again at once: it stays, and says what is wrong."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.gpu_servers import environment
from support.ports import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration
AARCH64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00\x01\x00\x00\x00" + bytes(40)


@contextmanager
def gpu_server(**settings: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gpu_server.main"], env=environment(**settings), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def test_it_says_what_is_wrong_until_it_is_told_to_stop() -> None:
    port = free_port()
    with gpu_server(MODEL_PATH="/absent.gguf", PORT=port, SERVER_NAME="qwen-1", RESTART_PAUSE_S=60) as process:

        def health() -> httpx.Response | None:
            assert process.poll() is None
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False)
            except httpx.HTTPError:
                return None

        wait_until(lambda: health() is not None, 30, "an answer")
        answer = health()
        assert answer is not None
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        said = answer.json()
        assert (said["state"], said["server"]) == ("failed", "qwen-1")
        assert "/absent.gguf does not exist" in said["detail"]
        asked = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json={}, timeout=5, trust_env=False)
        assert (asked.status_code, asked.json()["error"]["type"]) == (503, "unavailable_error")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 2


def test_it_ends_by_itself_when_the_pause_is_over() -> None:
    begun = time.monotonic()
    with gpu_server(MODEL_PATH="/absent.gguf", PORT="none", RESTART_PAUSE_S=1) as process:
        assert process.wait(60) == 2
    assert time.monotonic() - begun >= 1


def test_a_llama_server_for_another_processor_is_refused_with_both_names(tmp_path: Path) -> None:
    foreign = tmp_path / "llama-server"
    foreign.write_bytes(AARCH64)
    foreign.chmod(0o755)
    with gpu_server(MODEL_PATH="/absent.gguf", PORT=free_port(), LLAMA_SERVER=foreign) as process:
        assert process.wait(60) == 2
        assert process.stderr
        said = process.stderr.read()
    assert f"LLAMA_SERVER: {foreign} is built for aarch64, and this machine is" in said
