"""The farm that fits a machine when nobody says what it should be: pure choice, no looking, no starting."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corral.errors import CorralError
from corral.machine import Machine

GATE_PORT = 4000
POSTGRES_PORT = 15432
FIRST_CHAT_PORT = 8080
FIRST_EMBEDDING_PORT = 8090

CPU_CHAT_SERVERS = 2


@dataclass(frozen=True)
class Model:
    """A model as clients name it.

    Args:
        name: the name that clients ask for, and the name in the catalogue of packaged models.
        context: tokens of one slot.
        slots: requests decoded at once.
        memory_mib: host memory of one server of it, measured, wrapper and llama-server together.
    """

    name: str
    mode: Literal["chat", "embedding"]
    context: int
    slots: int
    memory_mib: int


@dataclass(frozen=True)
class Server:
    """One gpu-server: a model on the GPU that `gpu_uuid` or `device` pins it to, else on the CPU."""

    name: str
    model: Model
    preferred_port: int
    threads: int
    gpu_uuid: str | None = None
    device: str | None = None
    """llama-server's own name of the device, where the UUID cannot pin it."""

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU holds its layers."""
        return bool(self.gpu_uuid or self.device)


@dataclass(frozen=True)
class Farm:
    """Everything behind one gate."""

    servers: tuple[Server, ...]
    gate_port: int = GATE_PORT
    llama_server: Path | None = None
    """The binary that all servers run; None for the packaged engine."""

    @property
    def models(self) -> tuple[Model, ...]:
        """Each model once, in the order of the servers."""
        return tuple(dict.fromkeys(server.model for server in self.servers))


CHAT = Model(name="chat", mode="chat", context=4096, slots=2, memory_mib=420)
EMBED = Model(name="embed", mode="embedding", context=512, slots=4, memory_mib=220)

DATABASE_MIB, LITELLM_MIB = 120, 850
DISK_MIB = 600
"""What the first start writes below `.corral`: database 60, converted model 50, logs, room to work."""


def choose(machine: Machine) -> Farm:
    """Return the farm for this machine: a chat server a GPU, else two on the CPU; one embedding server.

    Raises:
        CorralError: the machine cannot run it; the message says what is missing.
    """
    pins = _gpu_pins(machine)
    if not pins:
        _check_cpu(machine)
    threads = max(1, machine.cores // max(len(pins), CPU_CHAT_SERVERS))
    chats = tuple(
        Server(f"chat-{number}", CHAT, FIRST_CHAT_PORT + number - 1, threads, gpu_uuid=uuid, device=device)
        for number, (uuid, device) in enumerate(pins or [(None, None)] * CPU_CHAT_SERVERS, start=1)
    )
    first_embedding_port = max(FIRST_EMBEDDING_PORT, FIRST_CHAT_PORT + len(chats))
    embedding = Server(name="embed-1", model=EMBED, preferred_port=first_embedding_port, threads=threads)
    binary = machine.llama_server.path if machine.llama_server else None
    farm = Farm(servers=(*chats, embedding), llama_server=binary)
    _check_room(machine, farm)
    return farm


def _gpu_pins(machine: Machine) -> list[tuple[str | None, str | None]]:
    """Return what pins a server to each GPU that llama-server can use: a UUID, or llama-server's name of the device.

    The UUID is the surer pin, and good where llama-server lists exactly the cards that NVML does. Where it lists
    others (some hidden by CUDA_VISIBLE_DEVICES, or Vulkan, which numbers in its own order), its own names pin.
    """
    devices = machine.gpu_devices
    if len(devices) == len(machine.gpus) and all(device.name.startswith("CUDA") for device in devices):
        return [(gpu.uuid, None) for gpu in machine.gpus]
    return [(None, device.name) for device in devices]


def _check_cpu(machine: Machine) -> None:
    if machine.llama_server is not None:
        return
    if machine.architecture not in ("x86_64", "AMD64", "aarch64", "arm64"):
        raise CorralError(
            f"no llama-server for this machine's architecture, {machine.architecture}, comes as a package",
            "build llama.cpp and set LLAMA_SERVER to its llama-server",
        )
    if machine.architecture in ("x86_64", "AMD64") and "avx2" not in machine.cpu_flags:
        raise CorralError(
            "this CPU has no AVX2, which the packaged llama-server needs",
            "set LLAMA_SERVER to one built for this CPU: docs/own-llama-server.md says how",
        )


def memory_needed_mib(farm: Farm) -> int:
    """Return the host memory that the whole farm takes, in MiB."""
    return DATABASE_MIB + LITELLM_MIB + sum(server.model.memory_mib for server in farm.servers)


def _check_room(machine: Machine, farm: Farm) -> None:
    needed = memory_needed_mib(farm)
    if machine.memory_available_mib < needed:
        raise CorralError(
            f"not enough memory: the farm takes about {needed} MiB, {machine.memory_available_mib} MiB are available",
            "stop what uses it (`ps --sort=-rss -eo rss,pid,comm | head`) or give the machine more",
        )
    if machine.disk_free_mib < DISK_MIB:
        raise CorralError(
            f"no room on disk: the farm's data takes about {DISK_MIB} MiB, {machine.disk_free_mib} MiB are free",
            "free some, or clone onto a larger file system",
        )
