"""`corral load-test` on a whole farm."""

import json
import re
import sqlite3
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.farm import LAPTOP, Farm, farm_in
from support.tap import tapped

pytestmark = pytest.mark.e2e

PATIENT_S = 120
"""What is tested is the load test, not how fast this machine is beside other tests."""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("farm")
    file = folder / "corral.yaml"
    text = LAPTOP.read_text().replace("ttft_p95_s: 15", f"ttft_p95_s: {PATIENT_S}")
    # What is under way at the end is waited for; two threads that wait for one another on a busy machine are slow.
    file.write_text(re.sub(r"slots: \d", "slots: 1\n    threads: 1", text))
    with farm_in(folder / "state") as farm:
        farm.environment["CORRAL_RUNS"] = str(folder / "runs" / "runs.sqlite")
        farm.environment["CORRAL_FILE"] = str(file)
        yield farm.up()


def runs_folder(farm: Farm) -> Path:
    return Path(farm.environment["CORRAL_RUNS"]).parent


def test_a_minute_of_stress_ends_with_a_table_and_is_kept(farm: Farm) -> None:
    said = farm.corral("load-test", "--duration", "60", "--label", "minute", timeout_s=280).stdout
    assert "objectives are kept" in said
    assert f"chat: time to first token, p95 < {PATIENT_S}.00 s" in said
    for name in ("chat-1", "chat-2", "embed-1", "litellm"):
        assert f"│ {name}" in said, said
    (folder,) = runs_folder(farm).glob("*-stress-all-gpus")
    summary = json.loads((folder / "summary.json").read_text())
    assert all(server["requests"] > 0 for server in summary["servers"])
    assert all(model["error_share"] == 0 for model in summary["models"])
    assert "minute" in farm.corral("bench", "list").stdout
    keys = farm.corral("keys", "list").stdout
    assert "load-test-" not in keys  # its key is gone


def test_ttft_of_k6_is_that_of_a_client_that_reads_the_stream_as_it_comes(farm: Farm) -> None:
    known = json.loads(next(runs_folder(farm).glob("*/targets.json")).read_text())
    with tapped(known["gate"]) as tap:
        for model in known["models"]:
            model["objectives"]["ttft_p95_s"] = 0.001
        path = runs_folder(farm) / "targets.json"
        path.write_text(json.dumps({**known, "gate": tap.url}))
        result = farm.corral(
            "load-test", "chat-sessions", "--duration", "10", "--targets", str(path), "--label", "tapped",
            check=False, API_KEY=farm.key, SESSIONS="1", TURNS="3", timeout_s=280,
        )  # fmt: skip
    assert result.returncode == 1, result.stdout + result.stderr  # no farm begins to answer within a millisecond
    assert "are not kept" in result.stdout
    with sqlite3.connect(farm.environment["CORRAL_RUNS"]) as runs:
        query = "SELECT value FROM samples JOIN runs ON runs.id = run WHERE label = 'tapped' AND metric = 'ttft_ms'"
        by_k6 = [value / 1000 for (value,) in runs.execute(query)]
    assert len(by_k6) >= 3
    assert len(by_k6) == len(tap.first_tokens_s)
    waited, read = statistics.fmean(by_k6), statistics.fmean(tap.first_tokens_s)
    assert waited == pytest.approx(read, rel=0.1, abs=0.03), (by_k6, tap.first_tokens_s)
