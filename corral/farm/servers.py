"""The servers that a farm file asks for, one by one: what all renderers and the planner work on."""

from collections.abc import Iterator
from dataclasses import dataclass

from corral.farm.file import FarmFile
from corral.farm.host import Gpu, Host
from corral.farm.model import Model
from corral.farm.placement import Placement
from corral.yamlfile import KeyPath


@dataclass(frozen=True)
class Server:
    """One gpu-server (or an image server).

    Args:
        name: unique in the farm: in headers, metrics, logs and container names.
        model_name: the name that clients ask for.
        host_name: a name of the file's hosts.
        gpu_index: its card's place in the host's list; None on the CPU.
        port: where it listens on its host.
        placement: its place in the file's `servers`.
    """

    name: str
    model_name: str
    model: Model
    host_name: str
    host: Host
    gpu_index: int | None
    port: int
    memory_mib: int | None
    placement: int

    @property
    def gpu(self) -> Gpu | None:
        """Its card, where the file lists it."""
        return None if self.gpu_index is None else self.host.known_gpus[self.gpu_index]

    @property
    def path(self) -> KeyPath:
        """Where the file asks for it."""
        return ("servers", self.placement)


def servers_of(farm: FarmFile) -> tuple[Server, ...]:
    """Return every server of a file that `checks.problems` finds nothing wrong with, in the file's order."""
    counted: dict[str, int] = {}
    found = []
    for number, placement in enumerate(farm.servers):
        host, model = farm.hosts[placement.host], farm.models[placement.model]
        for gpu, port in zip(places(placement, host), placement.ports, strict=False):
            base = base_name(placement)
            counted[base] = counted.get(base, 0) + 1
            found.append(
                Server(
                    name=f"{base}-{counted[base]}",
                    model_name=placement.model,
                    model=model,
                    host_name=placement.host,
                    host=host,
                    gpu_index=gpu,
                    port=port,
                    memory_mib=placement.memory_mib or model.memory_mib,
                    placement=number,
                )
            )
    return tuple(found)


def places(placement: Placement, host: Host) -> list[int | None]:
    """Return the card of each server of a placement, None for each on the CPU."""
    if placement.gpus == "all":
        cards: list[int | None] = list(range(len(host.known_gpus)))
        return cards or [None] * (placement.count or 1)
    return list(placement.gpus) or [None] * (placement.count or 1)


def base_name(placement: Placement) -> str:
    """Return what its servers' names begin with: safe as a container's, a host's and a metric label's."""
    return placement.name or placement.model.lower().replace("_", "-").replace(".", "-").strip("-")


def on_host(servers: tuple[Server, ...], host: str) -> Iterator[Server]:
    """Give the servers of one host."""
    return (server for server in servers if server.host_name == host)
