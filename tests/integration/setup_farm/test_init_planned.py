"""What `corral init` writes for GPUs is planned from the model's own header, where the hub has it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.errors import CorralError
from corral.farm import load_farm, servers_of
from corral.farm.host import Gpu
from corral.models.sources import HubSource
from corral.paths import StateDir
from corral.setup_farm.command import write
from corral.setup_farm.draft import Answers, Draft, draft
from corral.setup_farm.presets import Preset, named
from corral.setup_farm.surroundings import Surroundings
from support.gguf_files import Sparse, header_bytes
from support.gguf_models import Model, llama_31_8b_q5_k_m, small
from support.model_server import ModelServer, model_server
from support.plan_farms import QWEN

CARD = Gpu(memory_mib=6144, uuid="GPU-5c1ae8cd-0f6d-4b2a-9d39-2a1f7f3c8e00", name="P106-100")
BOX = Surroundings(
    architecture="x86_64", cpu_flags=frozenset({"avx2"}), cores=4, memory_mib=16384, memory_available_mib=12000,
    is_free=lambda port: True, gpus=(CARD,), llama_server=Path("llama-server"), serves_on_gpus=True,
)  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with model_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def drafted() -> tuple[Preset, Draft]:
    preset = named("llama-3.2-3b")
    assert preset is not None
    return preset, draft(BOX, Answers("corral", preset, 4000))


def put(hub: ModelServer, preset: Preset, model: Model) -> None:
    assert isinstance(preset.source, HubSource)
    source = preset.source
    hub.put(f"/{source.hub}/resolve/{source.revision}/{source.file}", Sparse(header_bytes(model), 8 << 30))  # type: ignore[arg-type]


def test_a_model_that_is_larger_than_was_estimated_is_refused_and_nothing_is_written(
    hub: ModelServer, tmp_path: Path
) -> None:
    preset, plan = drafted()
    put(hub, preset, llama_31_8b_q5_k_m())
    with pytest.raises(CorralError, match=r"llama-3.2-3b: the farm does not fit: .*choose a smaller model"):
        write(tmp_path / "corral.yaml", plan, StateDir(tmp_path / "state"))
    assert not (tmp_path / "corral.yaml").exists()
    assert not StateDir(tmp_path / "state").secrets_file.exists()


def test_one_that_fits_is_written(hub: ModelServer, tmp_path: Path) -> None:
    preset, plan = drafted()
    put(hub, preset, small(QWEN))
    write(tmp_path / "corral.yaml", plan, StateDir(tmp_path / "state"))
    assert [server.gpu_index for server in servers_of(load_farm(tmp_path / "corral.yaml").value)] == [0, None]


def test_without_a_hub_the_estimate_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    write(tmp_path / "corral.yaml", drafted()[1], StateDir(tmp_path / "state"))
    assert (tmp_path / "corral.yaml").exists()
