"""A farm that runs on this machine: what its file leaves to be found, and what the machine lacks."""

from pathlib import Path
from typing import Any

from corral.machine import Device, Gpu, LlamaServer, Machine
from corral.plan.here import machine_findings, memory_here_mib, with_machine
from support.plan_farms import one_gpu_farm, planned

CARDS = tuple(Gpu(index, f"GPU-0000{index}", "RTX 3060", 12_288) for index in range(3))
LISTED = LlamaServer(Path("llama-server"), tuple(Device(f"CUDA{index}", "NVIDIA RTX 3060") for index in range(3)))
DETECT = {"runtime": "processes", "gpus": "detect"}


def machine(**found: Any) -> Machine:
    return Machine("x86_64", frozenset({"avx2"}), 6, 8000, 10_000, **found)


def test_detected_gpus_are_planned_as_if_they_were_listed() -> None:
    farm = one_gpu_farm(host=DETECT, servers=[{"gpus": "all", "count": 2, "ports": "8080-8082"}])
    plan = planned(with_machine(farm, machine(gpus=CARDS, llama_server=LISTED), 16_384))
    assert [gpu.gpu.memory_mib for gpu in plan.gpus] == [12_288] * 3
    assert [server.server.gpu_index for server in plan.servers] == [0, 1, 2]
    assert (plan.hosts[0].host.cores, plan.hosts[0].host.memory_mib) == (6, 16_384)


def test_gpus_that_no_llama_server_can_use_do_not_count() -> None:
    farm = one_gpu_farm(host=DETECT, servers=[{"gpus": "all", "count": 2, "ports": "8080-8082"}])
    plan = planned(with_machine(farm, machine(gpus=CARDS), 16_384))
    assert plan.gpus == ()
    assert [server.server.gpu_index for server in plan.servers] == [None, None]


def test_what_the_file_says_of_a_host_stays() -> None:
    farm = one_gpu_farm(host={"runtime": "processes", "cores": 2, "memory_mib": 4096})
    host = with_machine(farm, machine(gpus=CARDS, llama_server=LISTED), 16_384).hosts["box"]
    assert (host.cores, host.memory_mib, len(host.known_gpus)) == (2, 4096, 1)


def test_a_host_elsewhere_is_not_this_machine() -> None:
    farm = one_gpu_farm()
    assert with_machine(farm, machine(), 16_384) == farm
    assert list(machine_findings(farm, machine(notes=("a note",)))) == []


def test_more_gpus_than_ports_are_told() -> None:
    farm = one_gpu_farm(host=DETECT, servers=[{"gpus": "all", "ports": "8080-8081"}])
    here = machine(gpus=CARDS, llama_server=LISTED)
    (finding,) = machine_findings(with_machine(farm, here, 16_384), here)
    assert (finding.level, finding.code) == ("note", "ports")
    assert "3 servers for the GPUs found, 2 ports" in finding.what


def test_a_cpu_without_avx2_needs_its_own_llama_server() -> None:
    farm = one_gpu_farm(gpus=(), host={"runtime": "processes"}, servers=[{"ports": 8080}])
    old = Machine("x86_64", frozenset(), 2, 8000, 10_000)
    (finding,) = machine_findings(farm, old)
    assert (finding.code, finding.level) == ("avx2", "error")
    assert list(machine_findings(farm, machine())) == []
    assert list(machine_findings(farm, Machine("x86_64", frozenset(), 2, 8000, 10_000, (), LISTED))) == []


def test_the_control_groups_limit_counts(tmp_path: Path) -> None:
    whole = memory_here_mib(tmp_path)
    assert whole > 256
    (tmp_path / "memory.max").write_text("268435456\n")
    assert memory_here_mib(tmp_path) == 256
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_here_mib(tmp_path) == whole
