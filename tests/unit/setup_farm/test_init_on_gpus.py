"""`corral init` on machines with faked cards: from what the driver says to the file that is written."""

from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from corral.cli import app
from corral.farm import load_farm, servers_of
from corral.setup_farm import command, surroundings
from support.nvml_cards import Card, FakeNvml

UUIDS = ("GPU-5c1ae8cd-0f6d-4b2a-9d39-2a1f7f3c8e01", "GPU-5c1ae8cd-0f6d-4b2a-9d39-2a1f7f3c8e02")


@pytest.fixture
def llama_server(tmp_path: Path) -> Path:
    binary = tmp_path / "llama-server"
    binary.write_text("#!/bin/sh\necho '  CUDA0: NVIDIA P104-100 (8112 MiB, 8000 MiB free)'\n")
    binary.chmod(0o755)
    return binary


def init(monkeypatch: pytest.MonkeyPatch, folder: Path, nvml: FakeNvml, **environment: str) -> Result:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(command, "look_around", partial(surroundings.look_around, nvml=nvml))
    return CliRunner().invoke(app, ["init", "--yes"], env={"CORRAL_STATE": None, "LLAMA_SERVER": None, **environment})


def test_a_box_of_cards_gets_a_server_on_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, llama_server: Path
) -> None:
    nvml = FakeNvml([Card(uuid=uuid) for uuid in UUIDS])
    done = init(monkeypatch, tmp_path, nvml, LLAMA_SERVER=str(llama_server))
    assert done.exit_code == 0, done.output
    assert "GPU 1: P104-100, 8,112 MiB, compute capability 6.1, limited to 90 W" in done.output
    assert "Next: corral models pull (4.6 GiB), then corral up" in done.output
    farm = load_farm(tmp_path / "corral.yaml").value
    pinned = [server.gpu and server.gpu.uuid for server in servers_of(farm)]
    assert pinned == [*UUIDS, None]
    assert farm.hosts["here"].runtime == "processes"


def test_cards_without_a_llama_server_for_them_are_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = init(monkeypatch, tmp_path, FakeNvml([Card(uuid=UUIDS[0])]), PATH="")
    assert done.exit_code == 0, done.output
    assert "note: no llama-server here can use the GPUs; set LLAMA_SERVER to one that can" in done.output
    farm = load_farm(tmp_path / "corral.yaml").value
    assert [gpu.uuid for gpu in farm.hosts["here"].known_gpus] == [UUIDS[0]]
    assert {server.gpu_index for server in servers_of(farm)} == {None}


def test_hardware_that_tells_nothing_of_itself_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, llama_server: Path
) -> None:
    odd = Card(uuid="\x1b[31m", name="'; rm -rf ~ #\n", memory_mib=7000, capability=None, limit_w=None)
    done = init(monkeypatch, tmp_path, FakeNvml([odd, Card(lost=True)]), LLAMA_SERVER=str(llama_server))
    assert done.exit_code == 0, done.output
    assert "note: GPU 1 is left out" in done.output
    [gpu] = load_farm(tmp_path / "corral.yaml").value.hosts["here"].known_gpus
    assert (gpu.memory_mib, gpu.uuid, gpu.name) == (7000, None, "")
