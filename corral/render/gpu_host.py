"""`hosts/HOST/gpu-server/compose.yaml`: the gpu-servers of one host, each with its own GPU, memory and key.

Models are loaded one after the other: each service depends on the one before being healthy. Eight at once would read
eight files from one disk, and two cores would be busy for so long that healthchecks fail. The dependency is not
`required`: Compose waits for health, and a server that is found unhealthy (its start period and three checks later) or
that ended is passed over with a warning, so a broken one holds the rest up for `START_PERIOD_S` at most.
"""

from collections.abc import Iterator, Sequence

from corral.farm import FarmFile, Server
from corral.farm.servers import on_host
from corral.models.sources import PathSource
from corral.render.compose import (
    ComposeFile,
    Deploy,
    Service,
    Variable,
    Volume,
    compose_file,
    hardened,
    mounted,
    probed_by_bash,
    published,
)
from corral.render.document import Rendered
from corral.render.settings import API_KEY, MODELS, model_path, projector_path, settings

START_PERIOD_S = 300
"""A 40 GB file from a slow disk takes longer; then the next one starts while it is still loading."""
STOP_MARGIN_S = 15
"""After the drain: llama-server's own end, or its kill."""
OWN_IMAGE = "corral-gpu-server:local"
IMAGE_SERVER_PORT = 8080
"""Of LocalAI, in its container."""

KEY = Variable("GPU_SERVER_KEY")


def render(farm: FarmFile, servers: Sequence[Server]) -> Iterator[Rendered]:
    """Give the compose file of each host that runs containers of the farm."""
    for name, host in farm.hosts.items():
        here = list(on_host(tuple(servers), name))
        if host.runtime == "compose" and here:
            yield compose_file(f"hosts/{name}/gpu-server/compose.yaml", _document(farm, name, here))


def _document(farm: FarmFile, host: str, servers: Sequence[Server]) -> ComposeFile:
    gpu_servers = [server for server in servers if server.model.mode != "image"]
    services: dict[str, Service] = {}
    before: Server | None = None
    for server in gpu_servers:
        services[server.name] = _gpu_server(server, before, sharing=len(gpu_servers))
        before = server
    image_servers = [server for server in servers if server.model.mode == "image"]
    services |= {server.name: _image_server(server) for server in image_servers}
    document: ComposeFile = {"name": f"{farm.name}-{host}", "services": services}
    if image_servers:
        document["volumes"] = {_volume_of(server): {} for server in image_servers}
    return document


def _gpu_server(server: Server, before: Server | None, *, sharing: int) -> Service:
    service: Service = {"image": server.host.image or OWN_IMAGE}
    if server.host.image is None and before is None:
        base = server.host.llama_server_base
        service["build"] = {"context": Variable("CORRAL_GPU_SERVER", default="../../../gpu-server")}
        if base:
            service["build"]["args"] = {"LLAMA_SERVER_BASE": base}
    elif server.host.image is None:
        service["pull_policy"] = "never"  # it is the one built for the first service
    drain_s = server.model.serving.drain_timeout_s
    service |= {
        "environment": {
            **settings(server, servers_on_host=sharing),
            API_KEY: KEY,
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",  # utility: NVML, for the card's metrics
        },
        "ports": [published(server.port, server.port, server.host.address)],
        "volumes": _volumes(server),
        "tmpfs": ["/tmp:size=256m"],  # noqa: S108  # the container's own
        "healthcheck": probed_by_bash(server.port, "/health", start_period_s=START_PERIOD_S),
        "pids_limit": 512,
        "stop_grace_period": f"{int(drain_s) + STOP_MARGIN_S}s",
    }
    if before is not None:
        service["depends_on"] = {before.name: {"condition": "service_healthy", "required": False}}
    return hardened(_placed(service, server))


def _image_server(server: Server) -> Service:
    """Return LocalAI's service; under a profile, since it loads gigabytes that most farms do without."""
    service: Service = {
        "image": server.model.image or "",
        "profiles": ["images"],
        "environment": {
            "LOCALAI_API_KEY": KEY,
            "LOCALAI_ADDRESS": f":{IMAGE_SERVER_PORT}",
            "LOCALAI_MODELS_PATH": str(MODELS),
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        },
        "ports": [published(server.port, IMAGE_SERVER_PORT, server.host.address)],
        "volumes": [{"type": "volume", "source": _volume_of(server), "target": str(MODELS)}],
        "healthcheck": {
            "test": ["CMD", "curl", "-fsS", "-m", "3", f"http://127.0.0.1:{IMAGE_SERVER_PORT}/readyz"],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": f"{START_PERIOD_S}s",
        },
        "pids_limit": 1024,
        "stop_grace_period": f"{STOP_MARGIN_S}s",
        "read_only": False,  # LocalAI unpacks its backends beside itself
    }
    return hardened(_placed(service, server))


def _placed(service: Service, server: Server) -> Service:
    """Return a service with its share of the host: one card, its memory, its CPUs."""
    placed: Service = {**service}
    if server.gpu_index is not None:
        placed["deploy"] = _reservation(server)
    if server.memory_mib is not None:
        placed["mem_limit"] = f"{server.memory_mib}m"
    if server.host.cpuset is not None:
        placed["cpuset"] = server.host.cpuset
    return placed


def _reservation(server: Server) -> Deploy:
    card = (server.gpu.uuid if server.gpu else None) or str(server.gpu_index)
    return {
        "resources": {
            "reservations": {"devices": [{"driver": "nvidia", "device_ids": [card], "capabilities": ["gpu"]}]}
        }
    }


def _volumes(server: Server) -> list[Volume]:
    model = server.model
    volumes = []
    if isinstance(model.source, PathSource):
        volumes.append(mounted(model.source.path, str(model_path(server))))
    else:
        volumes.append(mounted(server.host.models_dir, str(MODELS)))
    if model.projector is not None:
        volumes.append(mounted(model.projector.path, str(projector_path(server))))
    return volumes


def _volume_of(server: Server) -> str:
    return f"{server.name}-models"
