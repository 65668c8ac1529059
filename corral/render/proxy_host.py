"""`litellm/compose.yaml`: the gate's containers: LiteLLM, its PostgreSQL, the dumps of that, and Redis if it is wanted.

Where GPU servers of the gate's own host listen on the loopback only, a bridged container cannot reach them; LiteLLM
then uses the host's network, and PostgreSQL and Redis are published on the loopback for it.
"""

from collections.abc import Sequence

from corral.farm import FarmFile, Server, secret_names
from corral.farm.values import is_loopback
from corral.render.compose import (
    ComposeFile,
    External,
    Joined,
    Service,
    Text,
    Variable,
    compose_file,
    hardened,
    mounted,
    probed,
    published,
)
from corral.render.document import Rendered
from corral.render.nightly_dump import BACKUP, SCRIPTS, nightly_dump, scripts

POSTGRES_IMAGE = "postgres:17-bookworm"
POSTGRES_USER = "999:999"  # of Debian's image; as root it would need capabilities to change to it
REDIS_IMAGE = "redis:7-bookworm"
REDIS_PORT = 6379
REDIS_AGAIN_S = 10
"""How long a worker counts for itself before it tries a Redis again that was gone."""
POSTGRES_PORT = 5432
LOOPBACK = "127.0.0.1"
MIGRATIONS_S = 240
"""Longest first start."""

DATABASE_PASSWORD = Variable(secret_names.DATABASE_PASSWORD)
REDIS_PASSWORD = Variable(secret_names.REDIS_PASSWORD)


def render(farm: FarmFile, servers: Sequence[Server]) -> Rendered | None:
    """Return the compose file of the gate; None where it runs as processes."""
    if farm.hosts[farm.gate_host].runtime != "compose":
        return None
    on_loopback = on_host_network(farm, servers)
    services = {
        "litellm": _litellm(farm, on_host_network=on_loopback),
        "postgres": _postgres(farm.proxy.database_port if on_loopback else None),
        BACKUP: nightly_dump(POSTGRES_IMAGE, POSTGRES_USER),
    }
    volumes: dict[str, External | dict[str, str]] = {"postgres": {}, "dumps": {}}
    document: ComposeFile = {"name": f"{farm.name}-gate", "services": services, "volumes": volumes}
    if farm.proxy.caching.redis:
        services["redis"] = _redis(published_too=on_loopback)
    return compose_file("litellm/compose.yaml", document)


def on_host_network(farm: FarmFile, servers: Sequence[Server]) -> bool:
    """Return whether LiteLLM has to use its host's network: to reach GPU servers that listen on the loopback."""
    return any(server.host_name == farm.gate_host and is_loopback(server.host.address) for server in servers)


def _litellm(farm: FarmFile, *, on_host_network: bool) -> Service:
    proxy = farm.proxy
    service: Service = {
        "image": proxy.image,
        "command": [
            *("--config", "/app/corral/config.yaml", "--num_workers", str(proxy.workers)),
            *("--host", proxy.listen if on_host_network else "0.0.0.0"),  # noqa: S104  # in a container
            *("--port", str(proxy.port)),
        ],
        "environment": _environment(farm, on_host_network=on_host_network),
        "volumes": [
            mounted("./config.yaml", "/app/corral/config.yaml"),
            mounted(Variable("CORRAL_HOOKS", default="./hooks"), "/app/corral/hooks"),
        ],
        "tmpfs": ["/tmp:size=512m"],  # noqa: S108  # the container's own
        "depends_on": {"postgres": {"condition": "service_healthy", "required": True}},
        "healthcheck": probed(_ready_url(farm, on_host_network=on_host_network), start_period_s=MIGRATIONS_S),
        "mem_limit": f"{proxy.memory_mib}m",
        "pids_limit": 512,
        "stop_grace_period": "60s",
    }
    if proxy.caching.redis:
        service["depends_on"]["redis"] = {"condition": "service_healthy", "required": True}
    if on_host_network:
        service["network_mode"] = "host"
    else:
        service["ports"] = [published(proxy.port, proxy.port, proxy.listen)]
    return hardened(service)


def _environment(farm: FarmFile, *, on_host_network: bool) -> dict[str, Text]:
    database = f"{LOOPBACK}:{farm.proxy.database_port}" if on_host_network else f"postgres:{POSTGRES_PORT}"
    environment: dict[str, Text] = {
        "DATABASE_URL": Joined(("postgresql://litellm:", DATABASE_PASSWORD, f"@{database}/litellm")),
        **{name: Variable(name) for name in secret_names.GATE_SECRETS},
        "PYTHONPATH": "/app/corral/hooks",
        "CORRAL_FAST_PATH": Variable("CORRAL_FAST_PATH", default="on"),
        "LITELLM_MIGRATION_DIR": "/tmp/migrations",  # noqa: S108  # the image is read-only
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HOME": "/tmp",  # noqa: S108
    }
    if farm.proxy.caching.redis:
        environment |= {
            "REDIS_HOST": LOOPBACK if on_host_network else "redis",
            "REDIS_PORT": str(REDIS_PORT),
            "REDIS_PASSWORD": REDIS_PASSWORD,
            "REDIS_CIRCUIT_BREAKER_RECOVERY_TIMEOUT": str(REDIS_AGAIN_S),
        }
    named = [provider.api_key_env for provider in farm.providers.values()]
    if farm.langfuse:
        named += [farm.langfuse.public_key_env, farm.langfuse.secret_key_env]
    return environment | {name: Variable(name) for name in named if name}


def _ready_url(farm: FarmFile, *, on_host_network: bool) -> str:
    everywhere = farm.proxy.listen in ("0.0.0.0", "::")  # noqa: S104  # compared
    address = farm.proxy.listen if on_host_network and not everywhere else LOOPBACK
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{farm.proxy.port}/health/readiness"


def _postgres(port_on_loopback: int | None) -> Service:
    service: Service = {
        "image": POSTGRES_IMAGE,
        "user": POSTGRES_USER,
        "environment": {
            "POSTGRES_USER": "litellm",
            "POSTGRES_DB": "litellm",
            "POSTGRES_PASSWORD": DATABASE_PASSWORD,
        },
        "entrypoint": ["bash", f"{SCRIPTS}/postgres.sh"],
        "volumes": [{"type": "volume", "source": "postgres", "target": "/var/lib/postgresql/data"}, scripts()],
        "tmpfs": ["/tmp", "/run/postgresql:uid=999,gid=999"],  # noqa: S108  # the container's own
        "healthcheck": {
            "test": ["CMD", "pg_isready", "-q", "-U", "litellm", "-d", "litellm"],
            "interval": "5s",
            "timeout": "3s",
            "retries": 5,
            "start_period": "60s",
        },
        "mem_limit": "1024m",
        "shm_size": "128m",
        "pids_limit": 256,
        "stop_grace_period": "60s",
    }
    if port_on_loopback is not None:
        service["ports"] = [published(port_on_loopback, POSTGRES_PORT, LOOPBACK)]
    return hardened(service)


def _redis(*, published_too: bool) -> Service:
    service: Service = {
        "image": REDIS_IMAGE,
        "user": "999:999",
        "command": [
            *("redis-server", "--save", "", "--appendonly", "no"),  # a cache and counters: nothing to keep
            *("--maxmemory", "384mb", "--maxmemory-policy", "allkeys-lru", "--requirepass", REDIS_PASSWORD),
        ],
        "environment": {"REDISCLI_AUTH": REDIS_PASSWORD},
        "tmpfs": ["/data"],
        "healthcheck": {
            "test": ["CMD", "redis-cli", "ping"],
            "interval": "5s",
            "timeout": "3s",
            "retries": 5,
            "start_period": "20s",
        },
        "mem_limit": "512m",
        "pids_limit": 64,
        "stop_grace_period": "10s",
    }
    if published_too:
        service["ports"] = [published(REDIS_PORT, REDIS_PORT, LOOPBACK)]
    return hardened(service)
