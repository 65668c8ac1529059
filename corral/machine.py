"""What this machine has: looked at once, then handed around as a frozen value."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
import pynvml

MIB = 1024 * 1024


@dataclass(frozen=True)
class Gpu:
    """A graphics card as NVML reports it."""

    index: int
    uuid: str
    name: str
    memory_mib: int


@dataclass(frozen=True)
class LlamaServer:
    """A llama-server binary, and the devices that it lists (`CUDA0`, `Vulkan1`, ...)."""

    path: Path
    devices: tuple[str, ...] = ()


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
    def gpu_backend(self) -> Literal["CUDA", "Vulkan"] | None:
        """The way in which the llama-server found here reaches the GPUs, if it does."""
        if self.llama_server is None or not self.gpus:
            return None
        for backend in ("CUDA", "Vulkan"):
            if any(device.startswith(backend) for device in self.llama_server.devices):
                return backend
        return None


def look(state_root: Path, environment: Mapping[str, str]) -> Machine:
    """Look at the machine. Takes some 10 ms without a llama-server, else that binary's own start.

    Args:
        state_root: where the farm's data will lie; free room is asked of its file system.
        environment: read for `LLAMA_SERVER` and `PATH`.
    """
    notes: list[str] = []
    gpus = _gpus()
    server = _llama_server(environment, notes)
    if gpus and server is None:
        notes.append(
            f"{len(gpus)} NVIDIA GPU(s) found, but no llama-server on PATH or in LLAMA_SERVER: serving on the CPU"
        )
    elif gpus and server is not None and not server.devices:
        notes.append(f"{len(gpus)} NVIDIA GPU(s) found, but {server.path} lists no GPU device: serving on the CPU")
    return Machine(
        architecture=platform.machine(),
        cpu_flags=_cpu_flags(),
        cores=len(os.sched_getaffinity(0)),
        memory_available_mib=_memory_available_mib(),
        disk_free_mib=shutil.disk_usage(_existing_parent(state_root)).free // MIB,
        gpus=gpus,
        llama_server=server,
        notes=tuple(notes),
    )


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _cpu_flags() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _memory_available_mib() -> int:
    """Memory that new processes can have, also under a control group's limit (cgroup v2)."""
    available: int = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        available = min(available, int(text) - int(used.read_text()))
    return available // MIB


def _gpus() -> tuple[Gpu, ...]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found.append(
                Gpu(
                    index=index,
                    uuid=pynvml.nvmlDeviceGetUUID(handle),
                    name=pynvml.nvmlDeviceGetName(handle),
                    memory_mib=pynvml.nvmlDeviceGetMemoryInfo(handle).total // MIB,
                )
            )
        return tuple(found)
    finally:
        pynvml.nvmlShutdown()


def _llama_server(environment: Mapping[str, str], notes: list[str]) -> LlamaServer | None:
    named = environment.get("LLAMA_SERVER", "")
    found = named or shutil.which("llama-server", path=environment.get("PATH"))
    if not found:
        return None
    path = Path(found)
    try:
        listing = subprocess.run(
            [path, "--list-devices"], capture_output=True, text=True, timeout=30, check=False, env=dict(environment)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        notes.append(f"{path} --list-devices did not answer ({error}): no GPU is used")
        return LlamaServer(path)
    return LlamaServer(path, parse_devices(listing.stdout))


def parse_devices(listing: str) -> tuple[str, ...]:
    """Return the devices of `llama-server --list-devices`: lines such as `  CUDA0: NVIDIA P104-100 (8120 MiB, ...)`."""
    names = []
    for line in listing.splitlines():
        name, separator, _ = line.strip().partition(":")
        if separator and name.startswith(("CUDA", "Vulkan")) and name[-1].isdigit():
            names.append(name)
    return tuple(names)
