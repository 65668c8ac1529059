"""A farm that its GPUs would not hold is refused before anything starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from corral.errors import CorralError
from corral.farm import load_farm
from corral.machine import Device, Gpu, LlamaServer, Machine
from corral.paths import DEFAULT_FARM_FILE
from corral.plan.check import check_fits

CARD = Gpu(index=0, uuid="GPU-0000", name="P104-100", memory_mib=8120)
MACHINE = Machine(
    "x86_64", frozenset({"avx2"}), 2, 8000, 50_000, gpus=(CARD,),
    llama_server=LlamaServer(Path("llama-server"), (Device("CUDA0", "NVIDIA P104-100"),)),
)  # fmt: skip


def check(machine: Machine, tmp_path: Path) -> None:
    file = load_farm(DEFAULT_FARM_FILE).value
    check_fits(file, DEFAULT_FARM_FILE.parent, tmp_path / "models", tmp_path / "headers", machine, {})


def test_a_farm_that_fits_passes(tmp_path: Path) -> None:
    check(MACHINE, tmp_path)


def test_one_that_does_not_is_refused_with_figures_and_mend(tmp_path: Path) -> None:
    small = replace(MACHINE, gpus=(replace(CARD, memory_mib=900),))
    with pytest.raises(CorralError, match=r"does not fit: here GPU 0: [\d,]+ of 900 MiB") as error:
        check(small, tmp_path)
    assert error.value.mend
