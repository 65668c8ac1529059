"""What this machine adds to a farm that runs on it: GPUs that are to be detected, cores, memory, and what it lacks."""

from collections.abc import Iterator
from pathlib import Path

import psutil

from corral.farm.file import FarmFile
from corral.farm.host import Gpu, Host
from corral.farm.servers import places
from corral.machine import Machine
from corral.plan.figures import Finding
from corral.planner.memory import MIB

_X86 = ("x86_64", "AMD64")


def is_here(host: Host) -> bool:
    """Whether a host is this machine, as far as the file tells: processes are started where the command runs."""
    return host.runtime == "processes"


def with_machine(farm: FarmFile, machine: Machine, memory_mib: int) -> FarmFile:
    """Return the farm with what its file leaves to be found on this machine: GPUs, cores, memory."""
    hosts = {name: _found(host, machine, memory_mib) if is_here(host) else host for name, host in farm.hosts.items()}
    return farm.model_copy(update={"hosts": hosts})


def _found(host: Host, machine: Machine, memory_mib: int) -> Host:
    gpus = host.gpus
    if gpus == "detect":
        # llama-server decides how many it can use; NVML knows what they are.
        usable = machine.gpus[: len(machine.gpu_devices)]
        gpus = tuple(Gpu(memory_mib=gpu.memory_mib, uuid=gpu.uuid, name=gpu.name) for gpu in usable)
    return host.model_copy(
        update={"gpus": gpus, "cores": host.cores or machine.cores, "memory_mib": host.memory_mib or memory_mib}
    )


def machine_findings(farm: FarmFile, machine: Machine) -> Iterator[Finding]:
    """Give what this machine lacks for a farm that runs on it; `farm` is as `with_machine` returned it."""
    for name, host in farm.hosts.items():
        if not is_here(host):
            continue
        for note in machine.notes:
            yield Finding("note", "machine", name, ("hosts", name), note)
        if machine.llama_server is None and machine.architecture in _X86 and "avx2" not in machine.cpu_flags:
            yield Finding(
                "error", "avx2", name, ("hosts", name), "this CPU has no AVX2, which the packaged llama-server needs",
                "set LLAMA_SERVER to one built for this CPU: docs/own-llama-server.md says how",
            )  # fmt: skip
        for number, placement in enumerate(farm.servers):
            wanted = len(places(placement, host)) if placement.host == name else 0
            if wanted > len(placement.ports):
                yield Finding(
                    "note", "ports", f"{name} {placement.model}", ("servers", number, "ports"),
                    f"{wanted} servers for the GPUs found, {len(placement.ports)} ports: the rest take the next ones",
                )  # fmt: skip


def memory_here_mib(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return this machine's memory, or its control group's limit (cgroup v2) if that is lower."""
    total = int(psutil.virtual_memory().total)
    limit = cgroup / "memory.max"
    if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
        total = min(total, int(text))
    return total // MIB
