"""`corral capacity` against a farm whose knee is known."""

import heapq
import json
import os
import random
import re
import signal
import subprocess
from pathlib import Path

import pytest

from corral.capacity.arrivals import arrivals
from support.farm import CORRAL, LAPTOP
from support.simulated_farm import SimulatedFarm
from support.waiting import wait_until

pytestmark = pytest.mark.integration

SLOTS, SERVICE_S, TTFT_P95_S = 2, 0.08, 0.3
TRIAL = ("--seconds", "2", "--requests", "20", "--precision", "0.3")


def true_knee_rpm() -> float:
    """By simulating the queue of one server for 5,000 requests at each rate."""

    def late(rate_per_s: float) -> float:
        free, waits = [-1e9] * SLOTS, []
        for at in arrivals(rate_per_s, 5000 / rate_per_s, random.Random(3)):
            begin = max(at, heapq.heappop(free))
            heapq.heappush(free, begin + SERVICE_S)
            waits.append(begin - at + SERVICE_S / 5)
        return sum(wait > TTFT_P95_S for wait in waits) / len(waits)

    low, high = 0.0, SLOTS / SERVICE_S
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if late(middle) < 0.05 else (low, middle)
    return low * 60


def capacity(farm: SimulatedFarm, folder: Path, *arguments: str) -> list[str]:
    (folder / "targets.json").write_text(json.dumps(farm.targets(ttft_p95_s=TTFT_P95_S)))
    where = ["--targets", str(folder / "targets.json"), "--results", str(folder / "results")]
    return [str(CORRAL), "capacity", "sim", *where, *TRIAL, *arguments]


def run(command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    keys = {"API_KEY": "sk-a", "GPU_SERVER_KEY": "k", "COLUMNS": "200"}
    return subprocess.run(
        command, env={**os.environ, **keys, **more}, capture_output=True, text=True, timeout=200, check=False
    )


def test_the_knee_is_found_written_and_drawn_after_a_stop_on_the_way(tmp_path: Path) -> None:
    file = tmp_path / "corral.yaml"
    file.write_text(LAPTOP.read_text().replace("  chat: #", "  sim: # kept:").replace("model: chat", "model: sim"))
    with SimulatedFarm(servers=1, slots=SLOTS, service_s=SERVICE_S) as farm:
        command = capacity(farm, tmp_path, "--file", str(file))
        stopped = subprocess.Popen(
            command,
            env={**os.environ, "API_KEY": "sk-a", "GPU_SERVER_KEY": "k"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        record = tmp_path / "results" / "simulated" / "sim.json"
        wait_until(lambda: len(json.loads(record.read_text())["trials"]) >= 1, 60, "a trial")
        stopped.send_signal(signal.SIGINT)
        said, _ = stopped.communicate(timeout=30)
        assert stopped.returncode == 130, said
        assert "--resume" in said
        before = len(json.loads(record.read_text())["trials"])

        done = run([*command, "--resume", "--write"])
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads(record.read_text())["trials"]
    assert len(trials) > before
    assert done.stdout.count("a minute,") == len(trials)  # those of before are told again, not tried again
    held, broke = (float(found) for found in re.search(r"│ sim\s+│ ([\d.]+)\s+│ ([\d.]+)", done.stdout).groups())  # type: ignore[union-attr]
    # Trials of two seconds are short, and a busy machine finds less; test_search.py has long ones, and a tenth.
    assert 0.3 < (held * broke) ** 0.5 / true_knee_rpm() < 1.4, done.stdout
    assert "sim: bottleneck: " in done.stdout
    assert "<svg" in record.with_suffix(".svg").read_text()
    text = file.read_text()
    assert "# kept:" in text
    assert re.search(r"limits: \{rpm: \d{3,4}, parallel: \d+\}", text)


def test_a_farm_in_use_is_left_alone(tmp_path: Path) -> None:
    with SimulatedFarm(servers=1, slots=1, service_s=0.05) as farm:
        farm.servers[0].busy = 1
        refused = run(capacity(farm, tmp_path))
        assert refused.returncode == 1
        assert "in use (sim-1 at work)" in refused.stderr
        assert "--force" in refused.stderr
        unseen = run(capacity(farm, tmp_path), GPU_SERVER_KEY="")
        assert unseen.returncode == 2
    assert farm.bodies == []
