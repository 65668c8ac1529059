"""What this machine has: looked at once, then handed around as a frozen value."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pynvml

from corral.errors import CorralError

MIB = 1024 * 1024


@dataclass(frozen=True)
class Gpu:
    """A graphics card as NVML reports it."""

    index: int
    uuid: str
    name: str
    memory_mib: int


@dataclass(frozen=True)
class Device:
    """A device that llama-server lists: its name (`CUDA0`, `Vulkan1`), and what it says of it."""

    name: str
    description: str


@dataclass(frozen=True)
class LlamaServer:
    """A llama-server binary, and the GPU devices that it lists."""

    path: Path
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True)
class Machine:
    """The machine, as far as the choice of a farm and the checks before its start need it."""

    architecture: str
    cpu_flags: frozenset[str]
    cores: int
    memory_available_mib: int
    disk_free_mib: int
    gpus: tuple[Gpu, ...] = ()
    llama_server: LlamaServer | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def gpu_devices(self) -> tuple[Device, ...]:
        """The NVIDIA cards as the llama-server found here names them: CUDA's where it has CUDA, else Vulkan's."""
        if self.llama_server is None or not self.gpus:
            return ()
        listed = self.llama_server.devices
        cuda = tuple(device for device in listed if device.name.startswith("CUDA"))
        return cuda or tuple(device for device in listed if "nvidia" in device.description.lower())


def look(state_root: Path, environment: Mapping[str, str]) -> Machine:
    """Look at the machine. Takes some 10 ms without a llama-server, else that binary's own start.

    Args:
        state_root: where the farm's data will lie; free room is asked of its file system.
        environment: read for `LLAMA_SERVER` and `PATH`.
    """
    notes: list[str] = []
    gpus = _gpus(notes)
    server = _llama_server(environment, notes)
    if gpus and server is None:
        notes.append(
            f"{len(gpus)} NVIDIA GPU(s) found, but no llama-server on PATH or in LLAMA_SERVER: serving on the CPU"
        )
    machine = Machine(
        architecture=platform.machine(),
        cpu_flags=_cpu_flags(),
        cores=len(os.sched_getaffinity(0)),
        memory_available_mib=_memory_available_mib(),
        disk_free_mib=shutil.disk_usage(_existing_parent(state_root)).free // MIB,
        gpus=gpus,
        llama_server=server,
        notes=tuple(notes),
    )
    if gpus and server is not None and not machine.gpu_devices:
        notes.append(f"{len(gpus)} NVIDIA GPU(s) found, but {server.path} lists none of them: serving on the CPU")
        machine = replace(machine, notes=tuple(notes))
    return machine


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _cpu_flags() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _memory_available_mib(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that new processes can have, also under a control group's limit (cgroup v2).

    What the group holds as page cache counts as available: the kernel gives it up first.
    """
    available: int = psutil.virtual_memory().available
    limit, used, statistics = (cgroup / name for name in ("memory.max", "memory.current", "memory.stat"))
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        cache = 0
        for line in statistics.read_text().splitlines() if statistics.exists() else ():
            name, _, value = line.partition(" ")
            cache += int(value) if name in ("active_file", "inactive_file") else 0
        available = min(available, int(text) - int(used.read_text()) + cache)
    return available // MIB


def _gpus(notes: list[str]) -> tuple[Gpu, ...]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    found = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total // MIB
                name = pynvml.nvmlDeviceGetName(handle)
                found.append(Gpu(index, pynvml.nvmlDeviceGetUUID(handle), name, memory))
            except pynvml.NVMLError as error:
                notes.append(f"GPU {index} does not answer ({error}): left out")
    except pynvml.NVMLError as error:
        notes.append(f"the NVIDIA driver does not list its GPUs ({error}): serving on the CPU")
    finally:
        pynvml.nvmlShutdown()
    return tuple(found)


def _llama_server(environment: Mapping[str, str], notes: list[str]) -> LlamaServer | None:
    named = environment.get("LLAMA_SERVER", "")
    found = named or shutil.which("llama-server", path=environment.get("PATH"))
    if not found:
        return None
    path = Path(found).expanduser().absolute()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise CorralError(
            f"LLAMA_SERVER={named} is no program that can be run",
            "name the llama-server binary, or leave LLAMA_SERVER out to use the packaged one",
            exit_code=2,
        )
    try:
        listing = subprocess.run(
            [path, "--list-devices"], capture_output=True, text=True, timeout=30, check=False, env=dict(environment)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        notes.append(f"{path} --list-devices did not answer ({error}): no GPU is used")
        return LlamaServer(path)
    return LlamaServer(path, parse_devices(listing.stdout))


def parse_devices(listing: str) -> tuple[Device, ...]:
    """Return the devices of `llama-server --list-devices`: lines such as `  CUDA0: NVIDIA P104-100 (8120 MiB, ...)`."""
    found = []
    for line in listing.splitlines():
        name, separator, description = line.strip().partition(":")
        if separator and name.startswith(("CUDA", "Vulkan")) and name[-1].isdigit():
            found.append(Device(name, description.strip()))
    return tuple(found)
