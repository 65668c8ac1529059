"""Every k6 script, run by the real k6 for a few seconds against a farm whose behaviour is known."""

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corral.loadtest import k6
from support.farm import CORRAL
from support.simulated_farm import SimulatedFarm
from support.waiting import wait_until

pytestmark = pytest.mark.integration

THRESHOLD_BROKE = 99
GREEDY, MODEST = "sk-greedy", "sk-modest"
KEYS = json.dumps([{"key": MODEST, "rpm": 600, "greedy": False}, {"key": GREEDY, "rpm": 600, "greedy": True}])


@dataclass
class Ran:
    code: int
    said: str
    summary: dict[str, Any]
    html: str

    def threshold(self, start: str) -> dict[str, Any]:
        return next(each for each in self.summary["thresholds"] if each["metric"].startswith(start))


def run(farm: SimulatedFarm, script: str, folder: Path, *, ttft_p95_s: float = 5.0, **settings: str) -> Ran:
    folder.mkdir()
    (folder / "targets.json").write_text(json.dumps(farm.targets(ttft_p95_s=ttft_p95_s)))
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    asked = {"TARGETS": str(folder / "targets.json"), "API_KEY": "sk-a", "RESULTS": str(folder), "DURATION_S": "3"}
    result = subprocess.run(
        [str(k6.binary()), "run", "--quiet", "--no-usage-report", str(k6.script(script))],
        env={**environment, **asked, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = result.stdout + result.stderr
    assert result.returncode in (0, THRESHOLD_BROKE), said
    return Ran(
        result.returncode,
        said,
        json.loads((folder / "summary.json").read_text()),
        (folder / "summary.html").read_text(),
    )


def test_each_script_keeps_its_objectives_on_a_farm_that_is_in_order(tmp_path: Path) -> None:
    scripts = [name for name in k6.names() if name != "keys"]
    assert len(scripts) == 8
    with SimulatedFarm(service_s=0.02) as farm, ThreadPoolExecutor(4) as pool:
        ran = dict(zip(scripts, pool.map(lambda name: run(farm, name, tmp_path / name), scripts), strict=True))
    for name, each in ran.items():
        assert each.code == 0, f"{name}: {each.said}"
        assert "objectives are kept" in each.said
        assert sum(model["requests"] for model in each.summary["models"]) > 0, name
        assert "<table>" in each.html
    stress = ran["stress-all-gpus"].summary
    assert all(server["requests"] > 0 for server in stress["servers"])
    assert {model["model"] for model in stress["models"]} == {"sim", "vectors"}
    assert ran["chat-sessions"].threshold("cached_share")["found"] == pytest.approx(0.6)  # 6 of 10 tokens
    assert "batches of 16" in ran["embeddings"].said
    lengths = [body["max_tokens"] for body in farm.bodies if body.get("stream")]
    assert len(set(lengths)) > 10  # drawn, not fixed


def test_a_broken_objective_is_told_and_ends_with_an_exit_code(tmp_path: Path) -> None:
    with SimulatedFarm(service_s=0.5) as farm:
        slow = run(farm, "mixed", tmp_path / "slow", ttft_p95_s=0.05)
    assert slow.code == THRESHOLD_BROKE
    assert "are not kept" in slow.said
    assert not slow.threshold("ttft{model:sim}")["kept"]
    assert 'class="no"' in slow.html


def test_a_failing_server_shows_as_errors_and_a_full_queue_as_429(tmp_path: Path) -> None:
    with (
        SimulatedFarm(service_s=0.1) as fails,
        SimulatedFarm(servers=1, slots=1, service_s=0.3, max_queue=1) as small,
        ThreadPoolExecutor(2) as pool,
    ):
        fails.fail_next = 3
        failing = pool.submit(run, fails, "mixed", tmp_path / "failing")
        full = pool.submit(run, small, "spike", tmp_path / "full", CROWD="8")
    assert failing.result().code == THRESHOLD_BROKE
    assert sum(round(each["error_share"] * each["requests"]) for each in failing.result().summary["models"]) == 3
    assert full.result().threshold("lost")["kept"]  # refused is not lost
    assert next(each for each in full.result().summary["models"] if each["model"] == "sim")["refused"] > 0


def test_keys_tells_a_gate_that_limits_from_one_that_does_not(tmp_path: Path) -> None:
    with (
        SimulatedFarm(service_s=0.01, limits={GREEDY: 20}) as fair,
        SimulatedFarm(service_s=0.01, limits={MODEST: 2}) as confused,
        ThreadPoolExecutor(2) as pool,
    ):
        limited = pool.submit(run, fair, "keys", tmp_path / "limited", KEYS=KEYS)
        unfair = pool.submit(run, confused, "keys", tmp_path / "unfair", KEYS=KEYS)
    assert limited.result().code == 0, limited.result().said
    assert limited.result().threshold("greedy_served")["found"] == 20
    assert unfair.result().code == THRESHOLD_BROKE
    assert not unfair.result().threshold("modest_refused")["kept"]


def test_the_same_seed_draws_the_same_texts(tmp_path: Path) -> None:
    def first_texts(name: str, seed: str) -> list[str]:
        with SimulatedFarm(service_s=0.01) as farm:
            run(farm, "embeddings", tmp_path / name, SEED=seed, CLIENTS="1", DURATION_S="2", BATCHES="2")
            return [body["input"] for body in farm.bodies[:3]]

    with ThreadPoolExecutor(3) as pool:
        one, again, other = pool.map(first_texts, ("one", "again", "other"), ("5", "5", "6"))
    assert len(one) == 3
    assert one == again
    assert one != other


def test_a_run_of_an_own_workload_that_is_stopped_says_so_and_leaves_its_summary(tmp_path: Path) -> None:
    with SimulatedFarm(service_s=0.02) as farm:
        (tmp_path / "targets.json").write_text(json.dumps(farm.targets()))
        (tmp_path / "mine.json").write_text('{"answer_tokens": {"median": 100, "sigma": 0}}')
        command = [CORRAL, "load-test", "streams", "--targets", tmp_path / "targets.json", "--duration", "60"]
        command += ["--workload", tmp_path / "mine.json"]
        running = subprocess.Popen(
            command,
            env={**os.environ, "API_KEY": "sk-a", "CORRAL_RUNS": str(tmp_path / "runs" / "runs.sqlite")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        wait_until(lambda: len(farm.bodies) > 5, 60, "k6 to ask")
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        said, _ = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "the run was stopped" in said
    (summary,) = (tmp_path / "runs").glob("*/summary.json")
    assert json.loads(summary.read_text())["models"][0]["requests"] > 0
    assert {body["max_tokens"] for body in farm.bodies} == {100}
