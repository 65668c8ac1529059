from dataclasses import replace
from pathlib import Path

import pytest

from corral import default_farm
from corral.errors import CorralError
from corral.machine import Gpu, LlamaServer, Machine, parse_devices

LAPTOP = Machine(
    architecture="x86_64",
    cpu_flags=frozenset({"avx", "avx2"}),
    cores=4,
    memory_available_mib=8000,
    disk_free_mib=50_000,
)
CARDS = tuple(Gpu(index=i, uuid=f"GPU-{i}", name="P104-100", memory_mib=8120) for i in range(3))
CUDA = LlamaServer(Path("llama-server"), ("CUDA0", "CUDA1", "CUDA2"))
VULKAN = LlamaServer(Path("llama-server"), ("Vulkan0", "Vulkan1", "Vulkan2"))


def test_without_a_gpu_two_chat_servers_and_one_for_embeddings() -> None:
    farm = default_farm.choose(LAPTOP)
    assert [(s.name, s.model.name, s.gpu) for s in farm.servers] == [
        ("chat-1", "chat", None),
        ("chat-2", "chat", None),
        ("embed-1", "embed", None),
    ]
    assert [model.name for model in farm.models] == ["chat", "embed"]


def test_threads_share_the_cores_so_that_two_busy_servers_do_not_fight() -> None:
    assert {s.threads for s in default_farm.choose(LAPTOP).servers if s.model.mode == "chat"} == {2}
    assert {s.threads for s in default_farm.choose(replace(LAPTOP, cores=1)).servers} == {1}


def test_each_gpu_gets_a_chat_server_pinned_by_uuid_with_a_cuda_build() -> None:
    farm = default_farm.choose(replace(LAPTOP, gpus=CARDS, llama_server=CUDA))
    chats = [s for s in farm.servers if s.model.mode == "chat"]
    assert [s.gpu.uuid for s in chats if s.gpu] == ["GPU-0", "GPU-1", "GPU-2"]
    assert {s.device for s in chats} == {None}


def test_each_gpu_gets_a_chat_server_pinned_by_device_with_a_vulkan_build() -> None:
    farm = default_farm.choose(replace(LAPTOP, gpus=CARDS, llama_server=VULKAN))
    assert [s.device for s in farm.servers if s.gpu] == ["Vulkan0", "Vulkan1", "Vulkan2"]


def test_gpus_that_the_llama_server_cannot_reach_are_left_alone() -> None:
    cpu_only = replace(LAPTOP, gpus=CARDS, llama_server=LlamaServer(Path("llama-server")))
    assert all(s.gpu is None for s in default_farm.choose(cpu_only).servers)


def test_sixteen_gpus_leave_the_embedding_server_a_port_of_its_own() -> None:
    cards = tuple(Gpu(index=i, uuid=f"GPU-{i}", name="x", memory_mib=8120) for i in range(16))
    many = replace(LAPTOP, gpus=cards, llama_server=CUDA, memory_available_mib=64_000)
    ports = [s.preferred_port for s in default_farm.choose(many).servers]
    assert len(set(ports)) == 17


@pytest.mark.parametrize(
    ("machine", "cause", "mend"),
    [
        (replace(LAPTOP, cpu_flags=frozenset({"sse4_2"})), "no AVX2", "LLAMA_SERVER"),
        (replace(LAPTOP, architecture="riscv64"), "riscv64", "LLAMA_SERVER"),
        (replace(LAPTOP, memory_available_mib=700), "not enough memory.* 700 MiB", "stop what uses it"),
        (replace(LAPTOP, disk_free_mib=20), "no room on disk.* 20 MiB", "free some"),
    ],
)
def test_a_machine_that_cannot_gets_the_cause_and_the_mend(machine: Machine, cause: str, mend: str) -> None:
    with pytest.raises(CorralError, match=cause) as error:
        default_farm.choose(machine)
    assert mend in error.value.mend
    assert "\n" not in str(error.value)


def test_no_avx2_is_no_matter_with_an_own_llama_server() -> None:
    own = replace(LAPTOP, cpu_flags=frozenset(), llama_server=LlamaServer(Path("llama-server")))
    assert len(default_farm.choose(own).servers) == 3


def test_devices_are_read_from_llama_servers_listing() -> None:
    listing = """Available devices:
  CUDA0: NVIDIA P104-100 (8120 MiB, 8001 MiB free)
  Vulkan1: llvmpipe (LLVM 15.0.6, 256 bits) (24000 MiB, 24000 MiB free)
  BLAS: OpenBLAS (0 MiB)
load_backend: loaded CPU backend
"""
    assert parse_devices(listing) == ("CUDA0", "Vulkan1")
