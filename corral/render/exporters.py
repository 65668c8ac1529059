"""`hosts/<name>/exporters/compose.yaml`: a host's node exporter and, beside the gate, its database's exporter."""

from collections.abc import Iterator, Sequence

from corral.farm import FarmFile, Server
from corral.render.compose import ComposeFile, Service, compose_file, hardened, mounted, published
from corral.render.document import Rendered
from corral.render.key_budgets import queries
from corral.render.nightly_dump import VOLUME
from corral.render.prometheus import LOOPBACK, NODE_EXPORTER_PORT, POSTGRES_EXPORTER_PORT, at
from corral.render.proxy_host import DATABASE_PASSWORD, POSTGRES_PORT, on_host_network

NODE_EXPORTER_IMAGE = "prom/node-exporter:v1.9.1"
POSTGRES_EXPORTER_IMAGE = "prometheuscommunity/postgres-exporter:v0.17.1"
NOBODY = "65534:65534"
_DUMPS = "/dumps"
_QUERIES = "queries.yml"


def render(farm: FarmFile, servers: Sequence[Server]) -> Iterator[Rendered]:
    """Give a compose file for each host that runs containers; nothing where the farm has no monitoring."""
    if farm.monitoring is None:
        return
    for name, host in farm.hosts.items():
        if host.runtime != "compose":
            continue
        document: ComposeFile = {
            "name": f"{farm.name}-{name}-exporters",
            "services": {"node-exporter": _node_exporter(host.address)},
        }
        if name == farm.gate_host:
            _tell_of_dumps(farm, document)
            bridged = not on_host_network(farm, servers)
            document["services"]["postgres-exporter"] = _postgres_exporter(farm, bridged=bridged)
            if bridged:
                document["networks"] = {"gate": {"name": f"{farm.name}-gate_default", "external": True}}
            yield queries(f"hosts/{name}/exporters/{_QUERIES}")
        yield compose_file(f"hosts/{name}/exporters/compose.yaml", document)


def _node_exporter(address: str) -> Service:
    return hardened({
        "image": NODE_EXPORTER_IMAGE,
        "user": NOBODY,
        "command": [
            "--path.rootfs=/host",
            "--path.procfs=/host/proc",
            "--path.sysfs=/host/sys",
            "--collector.filesystem.mount-points-exclude=^/(dev|proc|run|sys|var/lib/docker/.+)($|/)",
            f"--web.listen-address={at(address, NODE_EXPORTER_PORT)}",
        ],
        "network_mode": "host",
        "pid": "host",
        "volumes": [
            {"type": "bind", "source": "/", "target": "/host", "read_only": True, "bind": {"create_host_path": False}}
        ],
        "mem_limit": "128m",
        "pids_limit": 64,
        "stop_grace_period": "5s",
    })  # fmt: skip


def _tell_of_dumps(farm: FarmFile, document: ComposeFile) -> None:
    """Have the node exporter read what lies beside the dumps of the gate's database."""
    node = document["services"]["node-exporter"]
    node["command"] = [*node["command"], f"--collector.textfile.directory={_DUMPS}"]
    node["volumes"] = [*node["volumes"], {"type": "volume", "source": VOLUME, "target": _DUMPS, "read_only": True}]
    document["volumes"] = {VOLUME: {"name": f"{farm.name}-gate_{VOLUME}", "external": True}}


def _postgres_exporter(farm: FarmFile, *, bridged: bool) -> Service:
    beside_prometheus = farm.monitoring_host == farm.gate_host
    address = LOOPBACK if beside_prometheus else farm.hosts[farm.gate_host].address
    database = f"postgres:{POSTGRES_PORT}" if bridged else f"{LOOPBACK}:{farm.proxy.database_port}"
    listen = at("" if bridged else address, POSTGRES_EXPORTER_PORT)
    service: Service = {
        "image": POSTGRES_EXPORTER_IMAGE,
        "user": NOBODY,
        "command": [f"--web.listen-address={listen}", f"--extend.query-path=/etc/corral/{_QUERIES}"],
        "volumes": [mounted(f"./{_QUERIES}", f"/etc/corral/{_QUERIES}")],
        "environment": {
            "DATA_SOURCE_URI": f"{database}/litellm?sslmode=disable",
            "DATA_SOURCE_USER": "litellm",
            "DATA_SOURCE_PASS": DATABASE_PASSWORD,
        },
        "mem_limit": "128m",
        "pids_limit": 64,
        "stop_grace_period": "5s",
    }
    if bridged:
        service["networks"] = ["gate"]
        service["ports"] = [published(POSTGRES_EXPORTER_PORT, POSTGRES_EXPORTER_PORT, address)]
    else:
        service["network_mode"] = "host"
    return hardened(service)
