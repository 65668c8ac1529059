"""What `corral init` sees of this machine. Hardware that answers oddly is left out with a note, never an error."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pynvml
from pydantic import ValidationError

from corral import farmstate, machine, ports
from corral.farm.host import Gpu
from corral.paths import StateDir

MIB = 1024 * 1024


@dataclass(frozen=True)
class Surroundings:
    """This machine, as far as a farm file depends on it.

    Attributes:
        architecture: as `uname -m` says it.
        memory_mib: what is built in; `memory_available_mib` is what new processes can have of it now.
        gpus: its NVIDIA cards in the driver's order, as a farm file has them.
        llama_server: the binary on PATH or in LLAMA_SERVER; None: the packaged one, which serves on the CPU.
        serves_on_gpus: whether that binary can use the cards.
        docker: whether there is a docker command.
        is_free: whether a server could listen on a port, or this folder's own running farm does.
        notes: what was left out, and why.
    """

    architecture: str
    cpu_flags: frozenset[str]
    cores: int
    memory_mib: int
    memory_available_mib: int
    is_free: Callable[[int], bool]
    gpus: tuple[Gpu, ...] = ()
    llama_server: Path | None = None
    serves_on_gpus: bool = False
    docker: bool = False
    notes: tuple[str, ...] = ()

    @property
    def can_serve(self) -> bool:
        """Whether there is a llama-server for this machine at all: the packaged one needs AVX2 on a PC."""
        if self.llama_server is not None or self.architecture in ("aarch64", "arm64"):
            return True
        return self.architecture in ("x86_64", "AMD64") and "avx2" in self.cpu_flags


def look_around(state: StateDir, environment: Mapping[str, str], nvml: Any = pynvml) -> Surroundings:
    """Look at this machine.

    Args:
        state: of the farm to be; the ports of one that runs from it count as free.
        environment: read for LLAMA_SERVER and PATH.
        nvml: the pynvml module, or a fake of it.

    Raises:
        CorralError: LLAMA_SERVER names no program.
    """
    seen = machine.look(state.root, environment)
    gpus, notes = _gpus(nvml)
    known = tuple(machine.Gpu(place, gpu.uuid or "", gpu.name, gpu.memory_mib) for place, gpu in enumerate(gpus))
    own = _own_ports(state)
    return Surroundings(
        architecture=seen.architecture,
        cpu_flags=seen.cpu_flags,
        cores=seen.cores,
        memory_mib=psutil.virtual_memory().total // MIB,
        memory_available_mib=seen.memory_available_mib,
        is_free=lambda port: port in own or ports.is_free(port),
        gpus=gpus,
        llama_server=seen.llama_server.path if seen.llama_server else None,
        serves_on_gpus=bool(replace(seen, gpus=known).gpu_devices),
        docker=shutil.which("docker", path=environment.get("PATH")) is not None,
        notes=notes,
    )


def _own_ports(state: StateDir) -> frozenset[int]:
    if farmstate.keeper(farmstate.read(state.state_file)) is None:
        return frozenset()
    return frozenset(ports.remembered(state.ports_file).values())


def _gpus(nvml: Any) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return (), ()
    found, notes = [], []
    try:
        for place in range(nvml.nvmlDeviceGetCount()):
            try:
                found.append(_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(place)))
            except (nvml.NVMLError, ValidationError) as error:
                reason = str(error).partition("\n")[0]
                notes.append(f"GPU {place} is left out: it does not say what it is ({reason})")
    except nvml.NVMLError as error:
        notes.append(f"the NVIDIA driver does not list its GPUs ({error})")
    finally:
        nvml.nvmlShutdown()
    return tuple(found), tuple(notes)


def _gpu(nvml: Any, handle: Any) -> Gpu:
    """Return a card as a farm file has it; what it does not tell, or tells in an unknown form, is left out.

    Raises:
        NVMLError: it does not answer.
        ValidationError: its memory is none that a farm can use.
    """

    def ask(function: Callable[[Any], Any]) -> Any:
        try:
            return function(handle)
        except nvml.NVMLError:
            return None

    capability = ask(nvml.nvmlDeviceGetCudaComputeCapability)
    limit_mw = ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
    told = {
        "name": _text(ask(nvml.nvmlDeviceGetName)),
        "uuid": _text(ask(nvml.nvmlDeviceGetUUID)),
        "memory_mib": int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // MIB,
        "compute_capability": ".".join(map(str, capability)) if capability else None,
        "power_limit_w": round(limit_mw / 1000) if limit_mw else None,
    }
    told = {key: value for key, value in told.items() if value is not None}
    try:
        return Gpu.model_validate(told)
    except ValidationError as error:
        odd = {str(problem["loc"][0]) for problem in error.errors()} - {"memory_mib"}
        return Gpu.model_validate({key: value for key, value in told.items() if key not in odd})


def _text(value: object) -> str | None:
    if isinstance(value, bytes):  # of older drivers' libraries
        return value.decode(errors="replace")
    return None if value is None else str(value)
