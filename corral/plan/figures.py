"""What a plan is made of: servers, GPUs and hosts with their figures, and what is to be said about them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from corral.farm.file import FarmFile
from corral.farm.host import Gpu, Host
from corral.farm.servers import Server
from corral.planner.estimate_server import Device, ServerShape
from corral.planner.memory import MIB, Estimate
from corral.yamlfile import KeyPath

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Edit:
    """A value of the farm file to be replaced."""

    path: KeyPath
    value: object


@dataclass(frozen=True, slots=True)
class Mend:
    """A change of the farm file, after which what was found is gone; `text` says it in words."""

    text: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to be said about a plan.

    Attributes:
        code: which kind it is, the same whatever the figures: `gpu-full`, `container-small`, ...
        where: the host, GPUs or servers meant, for people.
        path: the place in the farm file that decides it.
        mend: what to do, in words; empty if there is nothing to do.
        mends: those changes of the file that are known to be enough.
    """

    level: Level
    code: str
    where: str
    path: KeyPath
    what: str
    mend: str = ""
    mends: tuple[Mend, ...] = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"; {self.mend}" if self.mend else "")


@dataclass(frozen=True)
class PlannedServer:
    """A server with its figures.

    Attributes:
        shape: the settings that its llama-server gets; None for an image server.
        estimate: None where nothing is known of its memory, and `unknown` says why.
        cache_ram_mib: the prompt cache's limit, as given or as its container leaves room for.
        fixed_bytes: host memory without the prompt cache and the mapped weights, the wrapper's included.
        threads: CPU threads of its llama-server.
    """

    server: Server
    device: Device
    shape: ServerShape | None
    estimate: Estimate | None
    unknown: str
    cache_ram_mib: int
    fixed_bytes: int
    threads: int | None

    @property
    def gpu_bytes(self) -> int:
        """What is known of its part of the GPU."""
        return self.estimate.gpu.total if self.estimate else 0

    @property
    def host_bytes(self) -> int:
        """Host memory that cannot be dropped: a container's limit where nothing else is known."""
        if self.estimate is None:
            return (self.server.memory_mib or 0) * MIB
        return self.fixed_bytes + self.cache_ram_mib * MIB

    @property
    def mapped_bytes(self) -> int:
        """Weights that the CPU reads from the mapped file: page cache."""
        return self.estimate.host.mapped if self.estimate else 0

    @property
    def on_cpu(self) -> bool:
        """Whether it computes layers on the CPU."""
        return self.estimate is not None and self.estimate.gpu_layers < self.estimate.layers


@dataclass(frozen=True)
class PlannedGpu:
    """A GPU, the servers on it, and what is to stay free beside them."""

    host_name: str
    index: int
    gpu: Gpu
    servers: tuple[PlannedServer, ...]
    margin_bytes: int

    @property
    def memory_bytes(self) -> int:
        """All of it."""
        return self.gpu.memory_mib * MIB

    @property
    def used_bytes(self) -> int:
        """What its servers take, as far as that is known."""
        return sum(server.gpu_bytes for server in self.servers)

    @property
    def left_bytes(self) -> int:
        """What they leave, the margin included; negative if they take more than there is."""
        return self.memory_bytes - self.used_bytes

    @property
    def fits(self) -> bool:
        """Whether at least the margin is left."""
        return self.left_bytes >= self.margin_bytes

    @property
    def known(self) -> bool:
        """Whether the memory of all its servers is known."""
        return all(server.estimate for server in self.servers)


@dataclass(frozen=True)
class PlannedHost:
    """A host with its servers, and what else of the farm runs on it.

    Attributes:
        gate_bytes: the gate's containers or processes, 0 where it runs elsewhere.
    """

    name: str
    host: Host
    servers: tuple[PlannedServer, ...]
    gate_bytes: int

    @property
    def need_bytes(self) -> int:
        """Memory that cannot be dropped, prompt caches at their limits."""
        return self.gate_bytes + sum(server.host_bytes for server in self.servers)

    @property
    def limit_bytes(self) -> int:
        """The containers' limits together; a server without one counts with its need."""
        return self.gate_bytes + sum(
            server.server.memory_mib * MIB if server.server.memory_mib else server.host_bytes for server in self.servers
        )

    @property
    def mapped_bytes(self) -> int:
        """Mapped weights: servers of one model share the same pages."""
        models = {server.server.model_name: server.mapped_bytes for server in self.servers}
        return sum(models.values())

    @property
    def threads(self) -> int:
        """Threads of all its servers."""
        return sum(server.threads or 0 for server in self.servers)

    @property
    def power_w(self) -> int:
        """The known power limits of its GPUs together."""
        return sum(gpu.power_limit_w or 0 for gpu in self.host.known_gpus)


@dataclass(frozen=True)
class Plan:
    """A farm with its figures. `findings` are the worst first."""

    farm: FarmFile
    margin_bytes: int
    servers: tuple[PlannedServer, ...]
    gpus: tuple[PlannedGpu, ...]
    hosts: tuple[PlannedHost, ...]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Whether there is no error."""
        return not any(finding.level == "error" for finding in self.findings)

    def with_findings(self, more: Iterable[Finding]) -> "Plan":
        """Return the plan with further findings among its own."""
        findings = sorted([*self.findings, *more], key=lambda finding: LEVELS.index(finding.level))
        return replace(self, findings=tuple(findings))
