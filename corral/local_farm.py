"""The farm of this machine: a farm file's servers on what the machine has. Pure choice, no starting."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.errors import CorralError
from corral.farm import FarmFile
from corral.farm.host import Gpu, Host
from corral.farm.model import Model
from corral.farm.placement import Placement
from corral.farm.servers import base_name
from corral.gguf.files import read_file
from corral.machine import Machine
from corral.models.sources import PackageSource
from corral.models.wanted import Wanted
from corral.planner.estimate_server import Device, ServerShape
from corral.planner.memory import MIB, estimate

DATABASE_MIB, LITELLM_MIB, WRAPPER_MIB = 120, 850, 60
DEFAULT_CACHE_RAM_MIB = 512  # gpu-server's own
DISK_MIB = 600
"""What the first start writes below `.corral`: database 60, converted model 50, logs, room to work."""


@dataclass(frozen=True)
class Pin:
    """What keeps a server on one card: its UUID, or llama-server's own name of it where the UUID cannot."""

    uuid: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class LocalServer:
    """One gpu-server of this machine.

    Args:
        gguf: where its model is, or will be.
        preferred_port: the farm file's; another is taken where that one is not free.
        threads: of the CPU.
        pin: its card; None on the CPU.
    """

    name: str
    model_name: str
    model: Model
    gguf: Path
    preferred_port: int
    threads: int
    pin: Pin | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU holds its layers."""
        return self.pin is not None

    @property
    def memory_mib(self) -> int:
        """The host memory it takes, from its model's header; from the file's size where that is not there yet."""
        return WRAPPER_MIB + _engine_mib(self)


@dataclass(frozen=True)
class LocalFarm:
    """Everything behind one gate, on this machine."""

    file: FarmFile
    servers: tuple[LocalServer, ...]
    llama_server: Path | None = None
    """The binary that all servers run; None for the packaged engine."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """Each served model once, in the order of the servers."""
        return tuple(self.modes)

    @property
    def modes(self) -> dict[str, str]:
        """What each served model serves."""
        return {server.model_name: server.model.mode for server in self.servers}


def choose(file: FarmFile, base: Path, models_dir: Path, machine: Machine, *, check_room: bool = True) -> LocalFarm:
    """Return the farm that a farm file makes of this machine.

    Args:
        file: read and checked by `load_farm`.
        base: the file's folder, which a model's `path` is relative to.
        models_dir: where downloaded and converted models lie.
        machine: what it has.
        check_room: whether all of it is to be started, and must find memory and disk.

    Raises:
        CorralError: the machine cannot run it; the message says what is missing.
    """
    host = _this_host(file)
    pins = _pins(host, machine)
    if not pins:
        _check_cpu(machine)
    places = [
        (placement, base_name(placement), pin, port)
        for placement in file.servers
        for pin, port in _placed(file, placement, pins)
    ]
    share = max(1, machine.cores // max(1, sum(file.models[p.model].mode != "embedding" for p, *_ in places)))
    counted: dict[str, int] = {}
    servers = []
    for placement, name, pin, port in places:
        counted[name] = counted.get(name, 0) + 1
        model = file.models[placement.model]
        if model.source is None:
            raise CorralError(f"{placement.model} is no model for llama-server", "place it on a compose host")
        gguf = Wanted(placement.model, model.source, base).location(models_dir)
        servers.append(
            LocalServer(f"{name}-{counted[name]}", placement.model, model, gguf, port, model.threads or share, pin)
        )
    binary = machine.llama_server.path if machine.llama_server else None
    farm = LocalFarm(file, tuple(servers), binary)
    if check_room:
        _check_room(machine, farm)
    return farm


def check_growth(machine: Machine, farm: LocalFarm, names: list[str]) -> None:
    """Check that the largest of these servers finds memory: one is replaced at a time, after its predecessor ended.

    Raises:
        CorralError: it does not.
    """
    for server in farm.servers:
        if server.name in names and server.memory_mib > machine.memory_available_mib:
            raise CorralError(
                f"not enough memory: {server.name} would take about {server.memory_mib} MiB, "
                f"{machine.memory_available_mib} MiB are available",
                "give its model less context or fewer slots, or the machine more memory",
            )


def _this_host(file: FarmFile) -> Host:
    local = [host for host in file.hosts.values() if host.runtime == "processes"]
    if len(local) != 1 or len(file.hosts) != 1:
        raise CorralError(
            "this farm file is for containers on several hosts",
            "`corral render` writes their compose files; `make up` is for a file of one host with runtime: processes",
            exit_code=2,
        )
    return local[0]


def _placed(file: FarmFile, placement: Placement, pins: list[Pin]) -> Iterator[tuple[Pin | None, int]]:
    """Give the card and the preferred port of each server of a placement."""
    chosen: list[Pin | None]
    if placement.gpus == "all":
        chosen = list(pins) or [None] * (placement.count or 1)
    else:
        chosen = [pins[card] for card in placement.gpus] or [None] * (placement.count or 1)
    others = {port for other in file.servers if other is not placement for port in other.ports}
    others |= {file.proxy.port, file.proxy.database_port}
    further = (port for port in range(placement.ports[-1] + 1, 65536) if port not in others)
    for number, pin in enumerate(chosen):
        yield pin, placement.ports[number] if number < len(placement.ports) else next(further)


def _pins(host: Host, machine: Machine) -> list[Pin]:
    """Return what pins a server to each of the host's cards; nothing if it has none, or none that can be used."""
    if host.gpus == "detect":
        return _detected(machine)
    return [_named(gpu, number, machine) for number, gpu in enumerate(host.known_gpus)]


def _detected(machine: Machine) -> list[Pin]:
    """Pin to each card that llama-server can use.

    The UUID is the surer pin, and good where llama-server lists exactly the cards that NVML does. Where it lists
    others (some hidden by CUDA_VISIBLE_DEVICES, or Vulkan, which numbers in its own order), its own names pin.
    """
    devices = machine.gpu_devices
    if len(devices) == len(machine.gpus) and all(device.name.startswith("CUDA") for device in devices):
        return [Pin(uuid=gpu.uuid) for gpu in machine.gpus]
    return [Pin(device=device.name) for device in devices]


def _named(gpu: Gpu, number: int, machine: Machine) -> Pin:
    detected = _detected(machine)
    if not detected:
        raise CorralError(
            f"the farm file lists GPUs, and no llama-server here can use GPU {number}",
            "name a CUDA or Vulkan build in LLAMA_SERVER (its --list-devices must show the card), or write gpus: []",
        )
    known = {card.uuid: place for place, card in enumerate(machine.gpus)}
    place = number if gpu.uuid is None else known.get(gpu.uuid)
    if place is None or place >= len(detected):
        there = ", ".join(f"{card.uuid} ({card.name})" for card in machine.gpus) or "none"
        raise CorralError(
            f"GPU {gpu.uuid or number} of the farm file is not in this machine", f"the cards here are: {there}"
        )
    return detected[place]


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


def shape_of(model: Model, *, on_gpu: bool = False) -> ServerShape:
    """Return what decides the memory of a server of this model."""
    return ServerShape(
        context=model.total_context,
        slots=model.slots,
        batch=model.batch,
        ubatch=model.ubatch,
        gpu_layers=(10_000 if model.gpu_layers == "all" else model.gpu_layers) if on_gpu else 0,
        type_k=model.kv_cache.k,
        type_v=model.kv_cache.v,
        mode="chat" if model.mode == "transcription" else model.mode if model.mode != "image" else "chat",
        cache_ram_mib=cache_ram_mib(model),
    )


def cache_ram_mib(model: Model) -> int:
    """Return the host memory that a server keeps for the prompts of idle chats; llama-server's own would be 8 GiB."""
    return DEFAULT_CACHE_RAM_MIB if model.cache_ram_mib is None else model.cache_ram_mib


def _engine_mib(server: LocalServer) -> int:
    try:
        header = read_file(server.gguf)
        host = estimate(header, shape_of(server.model, on_gpu=server.on_gpu), Device.CUDA).host
    except (CorralError, OSError):  # not there yet, or of a kind that cannot be planned: its own start will tell
        source = server.model.source
        known = source.model.served.size if isinstance(source, PackageSource) else 0
        return known // MIB + 150
    prompts = host.prompts or 0
    return (host.resident - prompts - (host.mapped if server.on_gpu else 0)) // MIB


def memory_needed_mib(farm: LocalFarm) -> int:
    """Return the host memory that the whole farm takes, in MiB; prompts of idle chats come on top."""
    return DATABASE_MIB + LITELLM_MIB + sum(server.memory_mib for server in farm.servers)


def _check_room(machine: Machine, farm: LocalFarm) -> None:
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
