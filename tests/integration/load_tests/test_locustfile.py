"""The Locust file sends the mixture that its k6 counterpart sends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.farm import CHECKOUT
from support.simulated_farm import SimulatedFarm

pytestmark = pytest.mark.integration


def locust(targets: Path, seconds: int, **environment: str) -> subprocess.CompletedProcess[str]:
    file = CHECKOUT / "load-tests" / "locustfile.py"
    command = [sys.executable, "-m", "locust", "-f", str(file), "--headless", "--users", "6", "--spawn-rate", "6"]
    return subprocess.run(
        [*command, "--run-time", f"{seconds}s", "--stop-timeout", "5", "--only-summary"],
        env={**os.environ, "TARGETS": str(targets), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_runs_the_mixture_and_tells_ttft(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with SimulatedFarm(service_s=0.02) as farm:
        path.write_text(json.dumps(farm.targets()))
        ran = locust(path, 5, API_KEY="sk-a")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = ran.stdout + ran.stderr
    assert "TTFT" in said
    assert "chat, streamed" in said
    assert {"stream" in body for body in farm.bodies} == {True, False}
    assert farm.asked["sk-a"] == len(farm.bodies)
    chats = [body for body in farm.bodies if "messages" in body]
    assert len({body["max_tokens"] for body in chats}) >= 2  # drawn, not fixed


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    without_file = locust(path, 1, API_KEY="sk-a")
    assert without_file.returncode != 0
    assert "corral render" in without_file.stdout + without_file.stderr
    path.write_text(json.dumps({"gate": "http://127.0.0.1:9", "models": [{"name": "a", "mode": "chat", "context": 9}]}))
    without_key = locust(path, 1, API_KEY="")
    assert without_key.returncode != 0
    assert "corral keys create" in without_key.stdout + without_key.stderr
