"""The plan of a farm: every server's memory, every GPU's and host's sum, what does not fit, and what would mend it.

    planned = plan(farm, known)
    planned.fits, planned.findings

Nothing is looked at here: the farm's GPUs stand in it (`here.with_machine` puts detected ones in), its models' headers
are given.
"""

from collections.abc import Iterable
from dataclasses import replace

from corral.farm.file import FarmFile
from corral.farm.servers import Server, servers_of
from corral.gguf.errors import GgufError
from corral.local_farm import DATABASE_MIB, LITELLM_MIB
from corral.plan.figures import Finding, Plan, PlannedGpu, PlannedHost, PlannedServer
from corral.plan.known import Known
from corral.plan.mends import Mender
from corral.plan.on_gpus import gpu_findings
from corral.plan.on_hosts import host_findings
from corral.plan.on_servers import server_findings
from corral.plan.shapes import DEFAULT_CACHE_RAM_MIB, device_of, shape_of
from corral.planner.estimate_server import Device, ServerShape
from corral.planner.memory import DEFAULT_MARGIN_BYTES, MIB, Estimate, estimate
from corral.render.memory import cache_ram_mib as rendered_cache_ram_mib

WRAPPER_BYTES = 80 * MIB  # the gpu-server around a llama-server: 54 MiB after its imports, some more under load
POSTGRES_MIB = 512  # the database beside the gate, in a container


def plan(
    farm: FarmFile,
    known: Known,
    margin_bytes: int = DEFAULT_MARGIN_BYTES,
    *,
    allow_unknown: bool = False,
    found: Iterable[Finding] = (),
) -> Plan:
    """Return the farm's plan.

    Args:
        farm: without `gpus: detect`.
        known: its models' headers.
        margin_bytes: what must stay free on each GPU.
        allow_unknown: a model without a header is a warning and no error.
        found: what was found elsewhere, to stand among the findings.
    """
    planner = _Planner(known, margin_bytes, allow_unknown=allow_unknown)
    bare = planner.plan(farm)
    mender = Mender(bare, known, planner.plan)
    findings = []
    for finding in bare.findings:
        mended = mender.mended(finding)
        findings.append(replace(finding, mend=mended.text, mends=mended.mends) if mended else finding)
    return replace(bare, findings=()).with_findings((*found, *findings))


class _Planner:
    """Plans a farm, and again with changes: what was reckoned once is kept."""

    def __init__(self, known: Known, margin_bytes: int, *, allow_unknown: bool) -> None:
        self._known = known
        self._margin = margin_bytes
        self._allow_unknown = allow_unknown
        self._estimates: dict[tuple[str, ServerShape, Device], Estimate | str] = {}

    def plan(self, farm: FarmFile) -> Plan:
        """Return the plan, its findings without mends of the planner's own."""
        on_host: dict[str, list[PlannedServer]] = {name: [] for name in farm.hosts}
        counts = _servers_a_host(farm)
        for server in servers_of(farm):
            on_host[server.host_name].append(self._server(server, counts[server.host_name]))
        hosts = tuple(
            PlannedHost(name, host, tuple(on_host[name]), _gate_bytes(farm) if name == farm.gate_host else 0)
            for name, host in farm.hosts.items()
        )
        gpus = tuple(gpu for host in hosts for gpu in self._gpus(host))
        servers = tuple(server for host in hosts for server in host.servers)
        findings = (
            *server_findings(servers, self._known, allow_unknown=self._allow_unknown),
            *gpu_findings(gpus),
            *(finding for host in hosts for finding in host_findings(host)),
        )
        return Plan(farm, self._margin, servers, gpus, hosts, findings)

    def _server(self, server: Server, on_its_host: int) -> PlannedServer:
        model = server.model
        device = device_of(server)
        shape: ServerShape | None = None
        estimated: Estimate | str
        if model.mode == "image":
            estimated = "an image server's memory is not planned"
        else:
            try:
                shape = shape_of(server, self._known.projectors.get(server.model_name, 0))
                estimated = self._estimate(server.model_name, shape, device)
            except GgufError as error:
                estimated = str(error)
        threads = model.threads
        if threads is None and server.host.cores is not None and model.mode != "image":
            threads = max(1, server.host.cores // on_its_host)
        if isinstance(estimated, str):
            return PlannedServer(server, device, shape, None, estimated, 0, 0, threads)
        fixed = estimated.host.total + WRAPPER_BYTES
        if device is Device.CPU:
            fixed += self._known.projectors.get(server.model_name, 0)
        return PlannedServer(server, device, shape, estimated, "", _cache_ram_mib(server), fixed, threads)

    def _estimate(self, name: str, shape: ServerShape, device: Device) -> Estimate | str:
        key = (name, shape, device)
        if key not in self._estimates:
            header = self._known.headers.get(name)
            if header is None:
                self._estimates[key] = str(self._known.unknown.get(name, "its header is not known"))
            else:
                try:
                    self._estimates[key] = estimate(header, shape, device)
                except GgufError as error:
                    self._estimates[key] = str(error)
        return self._estimates[key]

    def _gpus(self, host: PlannedHost) -> Iterable[PlannedGpu]:
        on_card: dict[int, list[PlannedServer]] = {}
        for server in host.servers:
            if server.server.gpu_index is not None:
                on_card.setdefault(server.server.gpu_index, []).append(server)
        for index, gpu in enumerate(host.host.known_gpus):
            yield PlannedGpu(host.name, index, gpu, tuple(on_card.get(index, ())), self._margin)


def _servers_a_host(farm: FarmFile) -> dict[str, int]:
    counts = dict.fromkeys(farm.hosts, 0)
    for server in servers_of(farm):
        counts[server.host_name] += 1
    return counts


def _cache_ram_mib(server: Server) -> int:
    """Return the limit of the prompt cache: as its container is rendered, else as given, else gpu-server's own."""
    model = server.model
    if model.mode in ("embedding", "rerank"):
        return 0
    told = rendered_cache_ram_mib(server) if server.host.runtime == "compose" else model.cache_ram_mib
    return DEFAULT_CACHE_RAM_MIB if told is None else told


def _gate_bytes(farm: FarmFile) -> int:
    if farm.hosts[farm.gate_host].runtime == "processes":
        return (DATABASE_MIB + LITELLM_MIB) * MIB
    return (farm.proxy.memory_mib + POSTGRES_MIB) * MIB
