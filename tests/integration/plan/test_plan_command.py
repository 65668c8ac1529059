"""`corral plan` as people and scripts use it: the example farms, exit codes, piped, as JSON, beside llama-server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from corral.models.cli import PIPED_WIDTH
from corral.plan.cli import app
from support import memory_engine
from support.gguf_files import Sparse, header_bytes, write
from support.gguf_models import llama_31_8b_q5_k_m, nomic_embed_v15_q8_0, small
from support.model_server import ModelServer, model_server
from support.plan_farms import FARMS, QWEN, REFERENCE

pytestmark = pytest.mark.integration

Plan = Callable[..., Result]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Run `corral plan` with these words; its state is in the test's folder, and no hub is asked."""
    for name in ("CORRAL_MODELS", "HF_TOKEN", "LLAMA_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("CORRAL_STATE", str(tmp_path / "state"))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def reference_headers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("headers")
    llama = write(folder / "llama.gguf", llama_31_8b_q5_k_m())
    nomic = write(folder / "nomic.gguf", nomic_embed_v15_q8_0())
    given = {"llama": llama, "llama-uncensored": llama, "nomic-embed": nomic}
    return tuple(f"--header={name}={path}" for name, path in given.items())


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def test_the_reference_box_fits(plan: Plan, reference_headers: tuple[str, ...]) -> None:
    result = plan(REFERENCE, "--offline", *reference_headers)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("6,941   8,192  1,251     512  fits") == 7
    assert "It fits: 15 servers on 2 hosts, and each GPU keeps its margin of 512 MiB." in result.stdout


def test_a_doubled_context_ends_with_1_and_the_largest_that_fits(
    plan: Plan, reference_headers: tuple[str, ...], tmp_path: Path
) -> None:
    farm = tmp_path / "corral.yaml"
    farm.write_text(REFERENCE.read_text().replace("context: 16384", "context: 32768"))
    result = plan("--file", farm, *reference_headers)
    assert result.exit_code == 1
    assert result.stdout.count("DOES NOT FIT") == 7
    assert "set context of llama to 26624 (the largest that fits)" in result.stdout
    found = data(plan(farm, "--json", *reference_headers))
    (first, *_) = found["findings"]
    assert (first["level"], first["where"]) == ("error", "gpu-box GPU 0-2")
    assert farm.read_text().splitlines()[first["line"] - 1].startswith("  - {model: llama, host: gpu-box")
    assert first["mends"][0]["edits"] == [{"path": ["models", "llama", "context"], "value": 26_624}]


def test_the_laptop_farm_fits_this_machine_with_its_packaged_models(plan: Plan, tmp_path: Path) -> None:
    into = tmp_path / "state" / "models"
    subprocess.run(
        [sys.executable, "-m", "corral.models", "prepare", "--into", into], check=True, timeout=120, capture_output=True
    )
    result = plan(FARMS / "laptop.yaml", "--json")
    assert result.exit_code == 0, result.output
    servers = {server["name"]: server for server in data(result)["servers"]}
    assert {"chat-1", "embed-1"} <= set(servers)
    assert servers["embed-1"]["header"] == str(into / "all-MiniLM-L6-v2.f16.gguf")
    assert servers["embed-1"]["host_bytes"]["mapped"] > 40 * 2**20


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with model_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_two_hosts_from_the_hubs_headers_then_offline(plan: Plan, hub: ModelServer) -> None:
    weights = bytes(4 * 2**20)
    qwen, nomic = header_bytes(small(QWEN)), header_bytes(nomic_embed_v15_q8_0())
    for path, header, size in (
        ("/Qwen/Qwen2.5-7B-Instruct-GGUF/resolve/main/qwen2.5-7b-instruct-q4_k_m.gguf", qwen, 5000),
        ("/nomic-ai/nomic-embed-text-v1.5-GGUF/resolve/main/nomic-embed-text-v1.5.Q8_0.gguf", nomic, 200),
    ):
        hub.put(path, Sparse(header + weights, size * 2**20))  # type: ignore[arg-type]  # sliced and measured like bytes
    result = plan(FARMS / "two-hosts.yaml", "--json")
    assert result.exit_code == 0, result.output
    planned = data(result)
    assert [(gpu["used_mib"] > 4000, gpu["fits"]) for gpu in planned["gpus"]] == [(True, True), (True, True)]
    fetched = sum(file.asked[-1]["range"] != "bytes=0-3" for file in hub.files.values())
    assert fetched == 2
    hub.files.clear()
    assert data(plan(FARMS / "two-hosts.yaml", "--json", "--offline"))["gpus"] == planned["gpus"]


def test_a_model_that_is_not_known_ends_with_1_unless_allowed(plan: Plan) -> None:
    for words in ((), ("--offline",)):
        result = plan(FARMS / "two-hosts.yaml", *words)
        assert result.exit_code == 1
        assert "error: qwen-1 to qwen-2: not planned: " in result.stdout
        assert "Whether it fits is not known: 2 errors" in result.stdout
    allowed = plan(FARMS / "two-hosts.yaml", "--offline", "--allow-unknown")
    assert allowed.exit_code == 0
    assert "warning: qwen-1 to qwen-2: not planned: " in allowed.stdout


def test_what_is_wrong_with_the_arguments_or_the_file_ends_with_2(plan: Plan, tmp_path: Path) -> None:
    bad = tmp_path / "corral.yaml"
    bad.write_text("hosts: {box: {gpus: [{memory_mb: 8192}]}}\nmodels: {}\n")
    for words, said in (
        ([bad], f"{bad}:1:23: hosts.box.gpus[0].memory_mb: unknown key; did you mean `memory_mib`?"),
        ([tmp_path / "none.yaml"], "none.yaml"),
        ([REFERENCE, "--file", REFERENCE], "the farm file is given twice; leave out --file"),
        ([REFERENCE, "--header", "llama"], "--header 'llama' is incomplete; give --header NAME=FILE"),
        ([REFERENCE, "--header", f"lama={bad}"], "--header names lama, which is no model of the farm"),
        ([REFERENCE, "--header", f"llama={bad}"], "is no GGUF file"),
        ([REFERENCE, "--confirm", "--offline"], "--confirm needs a llama-server program"),
    ):
        result = plan(*words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr


def test_a_smaller_margin_is_heeded(plan: Plan, reference_headers: tuple[str, ...]) -> None:
    assert plan(REFERENCE, "--margin", 1251, *reference_headers).exit_code == 0
    assert plan(REFERENCE, "--margin", 1252, *reference_headers).exit_code == 1


def test_piped_it_is_wide_and_plain(reference_headers: tuple[str, ...], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    result = subprocess.run(
        [sys.executable, "-m", "corral.plan.cli", REFERENCE, "--offline", *reference_headers],
        capture_output=True, text=True, timeout=60, check=True, env={**environment, "CORRAL_STATE": str(tmp_path)},
    )  # fmt: skip
    assert "\x1b" not in result.stdout
    assert 100 < max(len(line) for line in result.stdout.splitlines()) <= PIPED_WIDTH
    assert not any(line != line.strip() and "…" in line for line in result.stdout.splitlines())


def test_confirm_shows_llama_servers_figures_beside_the_plan(
    plan: Plan, reference_headers: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {" ".join(memory_engine.command())} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("LLAMA_SERVER", str(program))
    result = plan(REFERENCE, "--confirm", "--offline", "--json", *reference_headers)
    assert result.exit_code == 0, result.output
    confirmed = {one["name"]: one["rows"] for one in data(result)["confirmed"]}
    assert set(confirmed) == {
        "llama-1 to llama-3", "llama-uncensored-1 to llama-uncensored-4", "nomic-embed-1 to nomic-embed-7"
    }  # fmt: skip
    host = {row["part"]: row for row in confirmed["llama-1 to llama-3"] if row["device"] == "Host"}
    assert int(host["KV cache"]["planned_mib"]) == host["KV cache"]["told_mib"] == 1088
    assert int(host["weights"]["planned_mib"]) == host["weights"]["told_mib"]
    assert host["compute"]["told_mib"] <= host["compute"]["planned_mib"] < 1.25 * host["compute"]["told_mib"] + 2


def test_confirm_says_which_models_are_not_here(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = tmp_path / "start.gguf"
    start.write_bytes(header_bytes(small(QWEN)))
    monkeypatch.setenv("LLAMA_SERVER", sys.executable)
    result = plan(
        FARMS / "two-hosts.yaml", "--confirm", "--offline", "--allow-unknown", f"--header=qwen={start}"
    )  # fmt: skip
    assert "qwen-1 to qwen-2: not confirmed: qwen is not on this machine; corral models pull qwen" in result.stdout


def test_confirm_shows_what_llama_server_said_when_it_failed(
    plan: Plan, reference_headers: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho unknown model architecture\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("LLAMA_SERVER", str(program))
    result = plan(REFERENCE, "--confirm", "--offline", *reference_headers)
    assert result.exit_code == 0
    assert f"not confirmed: {program} ended without a memory table (unknown model architecture)" in result.stdout
