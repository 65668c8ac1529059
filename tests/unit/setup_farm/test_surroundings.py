"""What `corral init` sees of a machine: each card as far as it tells of itself, and never an error."""

import socket
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from corral.farm.host import Gpu
from corral.paths import StateDir
from corral.setup_farm.surroundings import Surroundings, look_around
from support.nvml_cards import Card, FakeNvml
from support.ports import free_port

UUID = "GPU-5c1ae8cd-0f6d-4b2a-9d39-2a1f7f3c8e01"
P104 = Card(uuid=UUID)


def seen(tmp_path: Path, *cards: Card, fails: int | None = None, **environment: str) -> Surroundings:
    nvml = FakeNvml(list(cards), fails=fails)
    return look_around(StateDir(tmp_path / ".corral"), {"PATH": "", **environment}, nvml)


def test_a_card_is_described_as_the_driver_tells_it(tmp_path: Path) -> None:
    [gpu] = seen(tmp_path, P104).gpus
    assert gpu == Gpu(memory_mib=8112, uuid=UUID, name="P104-100", compute_capability="6.1", power_limit_w=90)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"capability": None, "limit_w": None}, {"compute_capability": None, "power_limit_w": None}),
        ({"uuid": "0000:01:00.0"}, {"uuid": None}),
        ({"name": "Tesla\x00\n$(id)"}, {"name": ""}),
        ({"capability": (123, 0)}, {"compute_capability": None}),
        ({"limit_w": 5000}, {"power_limit_w": None}),
        ({"uuid": "?", "name": "`", "limit_w": 1}, {"uuid": None, "name": "", "power_limit_w": None}),
    ],
)
def test_what_a_card_does_not_tell_in_a_known_form_is_left_out(
    tmp_path: Path, change: dict[str, object], expected: dict[str, object]
) -> None:
    machine = seen(tmp_path, replace(P104, **change))
    [gpu] = machine.gpus
    assert {key: getattr(gpu, key) for key in expected} == expected
    assert gpu.memory_mib == 8112
    assert machine.notes == ()


@pytest.mark.parametrize("change", [{"lost": True}, {"memory_mib": 0}, {"memory_mib": 64}])
def test_a_card_that_is_lost_or_has_no_memory_is_left_out_with_a_note(
    tmp_path: Path, change: dict[str, object]
) -> None:
    machine = seen(tmp_path, replace(P104, **change), replace(P104, name="other"))
    assert [gpu.name for gpu in machine.gpus] == ["other"]
    [note] = machine.notes
    assert note.startswith("GPU 0 is left out")
    assert "\n" not in note


def test_a_machine_without_a_driver_is_one_without_gpus(tmp_path: Path) -> None:
    machine = seen(tmp_path, P104, fails=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert (machine.gpus, machine.serves_on_gpus, machine.llama_server) == ((), False, None)
    assert machine.cores > 0
    assert 0 < machine.memory_available_mib <= machine.memory_mib


@pytest.mark.parametrize(
    ("listing", "serves"),
    [("  CUDA0: NVIDIA P104-100 (8112 MiB, 8000 MiB free)", True), ("  Vulkan0: llvmpipe (CPU)", False), ("", False)],
)
def test_a_llama_server_serves_on_gpus_if_it_lists_them(tmp_path: Path, listing: str, serves: bool) -> None:
    binary = tmp_path / "llama-server"
    binary.write_text(f"#!/bin/sh\necho 'Available devices:'\necho '{listing}'\n")
    binary.chmod(0o755)
    machine = seen(tmp_path, P104, LLAMA_SERVER=str(binary))
    assert (machine.llama_server, machine.serves_on_gpus) == (binary, serves)


def test_docker_is_seen_on_the_path(tmp_path: Path) -> None:
    assert not seen(tmp_path).docker
    (tmp_path / "docker").touch(mode=0o755)
    assert seen(tmp_path, PATH=str(tmp_path)).docker


def test_a_port_that_is_taken_is_not_free(tmp_path: Path) -> None:
    machine = seen(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not machine.is_free(taken.getsockname()[1])
    assert machine.is_free(free_port())


@pytest.mark.parametrize(
    ("architecture", "flags", "binary", "can"),
    [
        ("x86_64", {"avx2"}, None, True),
        ("x86_64", {"sse2"}, None, False),
        ("x86_64", {"sse2"}, Path("llama-server"), True),
        ("aarch64", set(), None, True),
        ("riscv64", set(), None, False),
    ],
)
def test_the_packaged_llama_server_needs_avx2_on_a_pc(
    tmp_path: Path, architecture: str, flags: set[str], binary: Path | None, can: bool
) -> None:
    machine = seen(tmp_path)
    other = replace(machine, architecture=architecture, cpu_flags=frozenset(flags), llama_server=binary)
    assert other.can_serve is can
