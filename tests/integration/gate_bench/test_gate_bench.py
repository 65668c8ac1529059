"""The gate's benchmark, as its users call it, with what needs no database."""

import json
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
PATHS = os.pathsep.join(str(CHECKOUT / name) for name in ("load-tests", "tests", "litellm/hooks"))


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gate_bench", *arguments],
        env={**os.environ, "PYTHONPATH": PATHS}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_each_way_is_measured_beside_the_direct_one(tmp_path: Path) -> None:
    done = bench("--only", "gpu-server", "--rounds", "1", "--scale", "0.05", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    ways = json.loads((tmp_path / "gate.json").read_text())["ways"]
    assert set(ways) == {"direct", "gpu-server"}
    through, straight = ways["gpu-server"], ways["direct"]
    assert through["memory_mib"][0] > 20
    assert through["request_cpu_ms"][0] > straight["request_cpu_ms"][0] == 0
    assert through["paced_token_cpu_us"][0] > straight["paced_token_cpu_us"][0] == 0
    for streams in (1, 8, 32, 128):
        assert 0 < straight[f"first_p50_ms.{streams}"][0] <= straight[f"first_p99_ms.{streams}"][0]
    for when in ("beginning_{}_ms.128", "under_way_{}_ms.1"):
        assert 0 < through[when.format("p50")][0] <= through[when.format("p99")][0]
    assert "| gpu-server |" in done.stdout


def test_a_profile_is_of_one_way(tmp_path: Path) -> None:
    done = bench("--profile", str(tmp_path / "folded"), "--out", str(tmp_path))
    assert done.returncode == 2
    assert "--only" in done.stderr


def test_a_way_that_is_not_known_is_named(tmp_path: Path) -> None:
    done = bench("--only", "carrier pigeon", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "carrier pigeon" in done.stderr
    assert "gpu-server" in done.stderr
