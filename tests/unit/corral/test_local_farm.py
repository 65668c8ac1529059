from dataclasses import replace
from pathlib import Path

import pytest

from corral import local_farm
from corral.errors import CorralError
from corral.farm import load_farm
from corral.local_farm import LocalFarm
from corral.machine import Device, Gpu, LlamaServer, Machine, _memory_available_mib, look, parse_devices
from corral.paths import DEFAULT_FARM_FILE

LAPTOP = Machine(
    architecture="x86_64",
    cpu_flags=frozenset({"avx", "avx2"}),
    cores=4,
    memory_available_mib=8000,
    disk_free_mib=50_000,
)
CARDS = tuple(Gpu(index=i, uuid=f"GPU-{i}", name="P104-100", memory_mib=8120) for i in range(3))
NVIDIA = "NVIDIA P104-100 (8120 MiB, 8001 MiB free)"
CUDA = LlamaServer(Path("llama-server"), tuple(Device(f"CUDA{i}", NVIDIA) for i in range(3)))
# An integrated card comes first, and each NVIDIA card after it has another number than NVML gives it.
VULKAN = LlamaServer(
    Path("llama-server"), (Device("Vulkan0", "Intel(R) UHD"), *(Device(f"Vulkan{i}", NVIDIA) for i in (1, 2, 3)))
)


def choose(machine: Machine, text: str | None = None, tmp: Path | None = None) -> LocalFarm:
    file = DEFAULT_FARM_FILE
    if text is not None and tmp is not None:
        file = tmp / "corral.yaml"
        file.write_text(text)
    return local_farm.choose(load_farm(file).value, file.parent, Path("models"), machine)


def test_without_a_gpu_two_chat_servers_and_one_for_embeddings() -> None:
    farm = choose(LAPTOP)
    assert [(s.name, s.model_name, s.on_gpu) for s in farm.servers] == [
        ("chat-1", "chat", False),
        ("chat-2", "chat", False),
        ("embed-1", "embed", False),
    ]
    assert list(farm.model_names) == ["chat", "embed"]


def test_threads_share_the_cores_so_that_two_busy_servers_do_not_fight() -> None:
    assert {s.threads for s in choose(LAPTOP).servers if s.model.mode == "chat"} == {2}
    assert {s.threads for s in choose(replace(LAPTOP, cores=1)).servers} == {1}


def test_each_gpu_gets_a_chat_server_pinned_by_uuid_with_a_cuda_build() -> None:
    farm = choose(replace(LAPTOP, gpus=CARDS, llama_server=CUDA))
    chats = [s for s in farm.servers if s.model.mode == "chat"]
    assert [s.pin and s.pin.uuid for s in chats] == ["GPU-0", "GPU-1", "GPU-2"]
    assert {s.pin and s.pin.device for s in chats} == {None}


def test_each_gpu_gets_a_chat_server_pinned_by_device_with_a_vulkan_build() -> None:
    farm = choose(replace(LAPTOP, gpus=CARDS, llama_server=VULKAN))
    assert [s.pin.device for s in farm.servers if s.pin] == ["Vulkan1", "Vulkan2", "Vulkan3"]


def test_cards_hidden_from_cuda_get_no_server_and_the_rest_are_pinned_by_cudas_own_numbers() -> None:
    one = LlamaServer(Path("llama-server"), CUDA.devices[:1])
    farm = choose(replace(LAPTOP, gpus=CARDS, llama_server=one))
    assert [(s.pin.uuid, s.pin.device) for s in farm.servers if s.pin] == [(None, "CUDA0")]


def test_gpus_that_the_llama_server_cannot_reach_are_left_alone() -> None:
    cpu_only = replace(LAPTOP, gpus=CARDS, llama_server=LlamaServer(Path("llama-server")))
    assert not any(s.on_gpu for s in choose(cpu_only).servers)


def test_sixteen_gpus_leave_the_embedding_server_a_port_of_its_own() -> None:
    cards = tuple(Gpu(index=i, uuid=f"GPU-{i}", name="x", memory_mib=8120) for i in range(16))
    server = LlamaServer(Path("llama-server"), tuple(Device(f"CUDA{i}", NVIDIA) for i in range(16)))
    many = replace(LAPTOP, gpus=cards, llama_server=server, memory_available_mib=64_000)
    ports = [s.preferred_port for s in choose(many).servers]
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
        choose(machine)
    assert mend in error.value.mend
    assert "\n" not in str(error.value)


def test_no_avx2_is_no_matter_with_an_own_llama_server() -> None:
    own = replace(LAPTOP, cpu_flags=frozenset(), llama_server=LlamaServer(Path("llama-server")))
    assert len(choose(own).servers) == 3


def test_devices_are_read_from_llama_servers_listing() -> None:
    listing = """Available devices:
  CUDA0: NVIDIA P104-100 (8120 MiB, 8001 MiB free)
  Vulkan1: llvmpipe (LLVM 15.0.6, 256 bits) (24000 MiB, 24000 MiB free)
  BLAS: OpenBLAS (0 MiB)
load_backend: loaded CPU backend
"""
    assert [device.name for device in parse_devices(listing)] == ["CUDA0", "Vulkan1"]


def test_a_llama_server_that_is_no_program_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for wrong in ("/nonexistent", str(tmp_path)):
        with pytest.raises(CorralError, match=f"LLAMA_SERVER={wrong} is no program") as error:
            look(tmp_path, {"LLAMA_SERVER": wrong, "PATH": ""})
        assert error.value.exit_code == 2


def test_a_relative_llama_server_is_the_one_that_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "llama-server"
    binary.write_text("#!/bin/sh\necho '  CUDA0: NVIDIA P104-100 (8120 MiB)'\n")
    binary.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    found = look(tmp_path, {"LLAMA_SERVER": "./llama-server", "PATH": ""}).llama_server
    assert found == LlamaServer(binary, (Device("CUDA0", "NVIDIA P104-100 (8120 MiB)"),))


def test_page_cache_of_a_container_counts_as_memory_to_be_had(tmp_path: Path) -> None:
    mib = 1024 * 1024
    (tmp_path / "memory.max").write_text(f"{300 * mib}\n")
    (tmp_path / "memory.current").write_text(f"{290 * mib}\n")
    (tmp_path / "memory.stat").write_text(f"anon {90 * mib}\nactive_file {50 * mib}\ninactive_file {150 * mib}\n")
    assert _memory_available_mib(tmp_path) == 210
    (tmp_path / "memory.max").write_text("max\n")
    assert _memory_available_mib(tmp_path) > 210


OWN = """\
hosts: {{here: {{runtime: processes, gpus: {gpus}}}}}
models:
  chat: {{source: {{package: smollm2-135m-instruct}}, threads: 3}}
servers:
  - {{model: chat, host: here, gpus: {chosen}, ports: {ports}}}
"""


def test_cards_that_the_farm_file_names_are_pinned_wherever_they_sit(tmp_path: Path) -> None:
    machine = replace(LAPTOP, gpus=CARDS, llama_server=CUDA)
    gpus = "[{uuid: GPU-0002, memory_mib: 8192}, {uuid: GPU-0000, memory_mib: 8192}]"
    cards = tuple(replace(card, uuid=f"GPU-000{card.index}") for card in CARDS)
    farm = choose(replace(machine, gpus=cards), OWN.format(gpus=gpus, chosen="[1, 0]", ports="8080-8081"), tmp_path)
    assert [(s.name, s.preferred_port, s.pin and s.pin.uuid) for s in farm.servers] == [
        ("chat-1", 8080, "GPU-0000"),
        ("chat-2", 8081, "GPU-0002"),
    ]
    assert {s.threads for s in farm.servers} == {3}


def test_a_card_that_is_not_in_this_machine_is_refused_with_those_that_are(tmp_path: Path) -> None:
    text = OWN.format(gpus="[{uuid: GPU-9999, memory_mib: 8192}]", chosen="[0]", ports=8080)
    with pytest.raises(CorralError, match=r"GPU-9999 of the farm file is not in this machine.*GPU-0 "):
        choose(replace(LAPTOP, gpus=CARDS, llama_server=CUDA), text, tmp_path)
    with pytest.raises(CorralError, match=r"no llama-server here can use GPU 0.*LLAMA_SERVER"):
        choose(LAPTOP, text, tmp_path)


def test_a_file_for_containers_is_not_started_as_processes() -> None:
    file = DEFAULT_FARM_FILE.with_name("two-hosts.yaml")
    with pytest.raises(CorralError, match="corral render") as error:
        local_farm.choose(load_farm(file).value, file.parent, Path("models"), LAPTOP)
    assert error.value.exit_code == 2


def test_a_replaced_server_must_find_memory_others_are_not_counted_twice() -> None:
    farm = choose(LAPTOP)
    local_farm.check_growth(replace(LAPTOP, memory_available_mib=500), farm, ["chat-1", "chat-2"])
    with pytest.raises(CorralError, match=r"chat-1 would take about .* 100 MiB are available"):
        local_farm.check_growth(replace(LAPTOP, memory_available_mib=100), farm, ["chat-1"])
