"""`langfuse/compose.yaml`: Langfuse 4 with the stores that it needs, where the farm file names a host for it.

After its own compose file (langfuse/langfuse, docker-compose.yml), with every secret from `.env`, no telemetry, no
sign-up, and only the web's port published. Media uploads and batch exports stay off: browsers would have to reach the
S3 store. The project and its keys are made at the first start, from the names that the gate uses.
"""

from collections.abc import Iterator, Sequence

from corral.farm import FarmFile, Server
from corral.farm.gate import Langfuse
from corral.render.compose import (
    ComposeFile,
    Dependency,
    Healthcheck,
    Joined,
    Service,
    Text,
    Variable,
    Volume,
    compose_file,
    hardened,
    published,
)
from corral.render.document import Rendered
from corral.render.proxy_host import POSTGRES_IMAGE, POSTGRES_USER, REDIS_IMAGE

VERSION = "4.16.0"
WEB_IMAGE = f"langfuse/langfuse:{VERSION}"
WORKER_IMAGE = f"langfuse/langfuse-worker:{VERSION}"
CLICKHOUSE_IMAGE = "clickhouse/clickhouse-server:25.12"
STORE_IMAGE = "minio/minio:RELEASE.2025-09-07T16-13-09Z"
WEB_PORT = 3000
WORKER_PORT = 3030
NODE_USER = "1001:1001"  # of both images
CLICKHOUSE_USER = "101:101"
REDIS_USER = "999:999"
BUCKET = "langfuse"
MIGRATIONS_S = 300
"""Longest first start."""

DATABASE_PASSWORD = Variable("LANGFUSE_POSTGRES_PASSWORD")
CLICKHOUSE_PASSWORD = Variable("LANGFUSE_CLICKHOUSE_PASSWORD")
REDIS_PASSWORD = Variable("LANGFUSE_REDIS_PASSWORD")
STORE_USER = Variable("LANGFUSE_STORE_USER")
STORE_PASSWORD = Variable("LANGFUSE_STORE_PASSWORD")


def render(farm: FarmFile, _servers: Sequence[Server]) -> Iterator[Rendered]:
    """Give the compose file; nothing where the farm has no Langfuse, or one that runs elsewhere."""
    settings = farm.langfuse
    if settings is None or settings.host is None or farm.langfuse_url is None:
        return
    listen = settings.listen or farm.hosts[settings.host].address
    document: ComposeFile = {
        "name": f"{farm.name}-langfuse",
        "services": {
            "web": _web(farm.name, settings, farm.langfuse_url, listen),
            "worker": _worker(farm.langfuse_url),
            "postgres": _postgres(),
            "clickhouse": _clickhouse(),
            "redis": _redis(),
            "store": _store(),
        },
        "volumes": {name: {} for name in ("postgres", "clickhouse", "clickhouse-logs", "redis", "store")},
    }
    yield compose_file("langfuse/compose.yaml", document)


def _web(farm_name: str, settings: Langfuse, url: str, listen: str) -> Service:
    return hardened({
        "image": WEB_IMAGE,
        "user": NODE_USER,
        "environment": {
            **_environment(url),
            "NEXTAUTH_SECRET": Variable("LANGFUSE_NEXTAUTH_SECRET"),
            "AUTH_DISABLE_SIGNUP": "true",
            "LANGFUSE_INIT_ORG_ID": farm_name,
            "LANGFUSE_INIT_ORG_NAME": farm_name,
            "LANGFUSE_INIT_PROJECT_ID": farm_name,
            "LANGFUSE_INIT_PROJECT_NAME": farm_name,
            "LANGFUSE_INIT_PROJECT_PUBLIC_KEY": Variable(settings.public_key_env),
            "LANGFUSE_INIT_PROJECT_SECRET_KEY": Variable(settings.secret_key_env),
            "LANGFUSE_INIT_USER_EMAIL": Variable("LANGFUSE_USER_EMAIL"),
            "LANGFUSE_INIT_USER_NAME": "admin",
            "LANGFUSE_INIT_USER_PASSWORD": Variable("LANGFUSE_USER_PASSWORD"),
        },
        "ports": [published(settings.port, WEB_PORT, listen)],
        "depends_on": _stores(),
        "tmpfs": ["/tmp", f"/app/web/.next/cache:{_owned_by(NODE_USER)}"],  # noqa: S108  # the container's own
        "healthcheck": _asked(WEB_PORT, "/api/public/health"),
        "mem_limit": "2048m",
        "pids_limit": 256,
        "stop_grace_period": "30s",
    })  # fmt: skip


def _worker(url: str) -> Service:
    return hardened({
        "image": WORKER_IMAGE,
        "user": NODE_USER,
        "environment": _environment(url),
        "depends_on": {**_stores(), "web": {"condition": "service_healthy", "required": True}},  # which migrates
        "tmpfs": ["/tmp"],  # noqa: S108  # the container's own
        "healthcheck": _asked(WORKER_PORT, "/api/health"),
        "mem_limit": "2048m",
        "pids_limit": 256,
        "stop_grace_period": "60s",
    })  # fmt: skip


def _environment(url: str) -> dict[str, Text]:
    return {
        "NEXTAUTH_URL": url,
        "HOSTNAME": "0.0.0.0",  # noqa: S104  # in a container; Next.js would take the container's name
        "DATABASE_URL": Joined(("postgresql://langfuse:", DATABASE_PASSWORD, "@postgres:5432/langfuse")),
        "SALT": Variable("LANGFUSE_SALT"),
        "ENCRYPTION_KEY": Variable("LANGFUSE_ENCRYPTION_KEY"),
        "TELEMETRY_ENABLED": "false",
        "HOME": "/tmp",  # noqa: S108  # the images are read-only
        "CLICKHOUSE_MIGRATION_URL": "clickhouse://clickhouse:9000",
        "CLICKHOUSE_URL": "http://clickhouse:8123",
        "CLICKHOUSE_USER": "langfuse",
        "CLICKHOUSE_PASSWORD": CLICKHOUSE_PASSWORD,
        "CLICKHOUSE_CLUSTER_ENABLED": "false",
        "REDIS_HOST": "redis",
        "REDIS_PORT": "6379",
        "REDIS_AUTH": REDIS_PASSWORD,
        "LANGFUSE_S3_EVENT_UPLOAD_BUCKET": BUCKET,
        "LANGFUSE_S3_EVENT_UPLOAD_REGION": "auto",
        "LANGFUSE_S3_EVENT_UPLOAD_ENDPOINT": "http://store:9000",
        "LANGFUSE_S3_EVENT_UPLOAD_ACCESS_KEY_ID": STORE_USER,
        "LANGFUSE_S3_EVENT_UPLOAD_SECRET_ACCESS_KEY": STORE_PASSWORD,
        "LANGFUSE_S3_EVENT_UPLOAD_FORCE_PATH_STYLE": "true",
        "LANGFUSE_S3_EVENT_UPLOAD_PREFIX": "events/",
    }


def _postgres() -> Service:
    return hardened({
        "image": POSTGRES_IMAGE,
        "user": POSTGRES_USER,
        "environment": {
            "POSTGRES_USER": "langfuse",
            "POSTGRES_DB": "langfuse",
            "POSTGRES_PASSWORD": DATABASE_PASSWORD,
            "TZ": "UTC",
            "PGTZ": "UTC",
        },
        "volumes": [_kept("postgres", "/var/lib/postgresql/data")],
        "tmpfs": ["/tmp", f"/run/postgresql:{_owned_by(POSTGRES_USER)}"],  # noqa: S108  # the container's own
        "healthcheck": _checked("pg_isready", "-q", "-U", "langfuse", "-d", "langfuse"),
        "mem_limit": "512m",
        "shm_size": "64m",
        "pids_limit": 128,
        "stop_grace_period": "60s",
    })  # fmt: skip


def _clickhouse() -> Service:
    return hardened({
        "image": CLICKHOUSE_IMAGE,
        "user": CLICKHOUSE_USER,
        "environment": {"CLICKHOUSE_USER": "langfuse", "CLICKHOUSE_PASSWORD": CLICKHOUSE_PASSWORD},
        "volumes": [
            _kept("clickhouse", "/var/lib/clickhouse"),
            _kept("clickhouse-logs", "/var/log/clickhouse-server"),
        ],
        # Its entrypoint writes the user there.
        "tmpfs": ["/tmp", f"/etc/clickhouse-server/users.d:{_owned_by(CLICKHOUSE_USER)}"],  # noqa: S108
        "healthcheck": _asked(8123, "/ping"),
        "mem_limit": "4096m",
        "pids_limit": 2048,
        "stop_grace_period": "60s",
    })  # fmt: skip


def _redis() -> Service:
    return hardened({
        "image": REDIS_IMAGE,
        "user": REDIS_USER,
        "command": [
            *("redis-server", "--appendonly", "yes"),  # it holds the queue between web and worker
            *("--maxmemory", "384mb", "--maxmemory-policy", "noeviction", "--requirepass", REDIS_PASSWORD),
        ],
        "environment": {"REDISCLI_AUTH": REDIS_PASSWORD},
        "volumes": [_kept("redis", "/data")],
        "healthcheck": _checked("redis-cli", "ping"),
        "mem_limit": "512m",
        "pids_limit": 64,
        "stop_grace_period": "10s",
    })  # fmt: skip


def _store() -> Service:
    """Runs as the image's root, without any capability: a new volume belongs to root there."""
    return hardened({
        "image": STORE_IMAGE,
        "entrypoint": ["sh", "-c", f"mkdir -p /data/{BUCKET} && exec minio server --address :9000 /data"],
        "environment": {"MINIO_ROOT_USER": STORE_USER, "MINIO_ROOT_PASSWORD": STORE_PASSWORD, "HOME": "/tmp"},  # noqa: S108
        "volumes": [_kept("store", "/data")],
        "tmpfs": ["/tmp"],  # noqa: S108  # the container's own
        "healthcheck": _checked("mc", "ready", "local"),
        "mem_limit": "1024m",
        "pids_limit": 256,
        "stop_grace_period": "30s",
    })  # fmt: skip


def _stores() -> dict[str, Dependency]:
    return {
        name: {"condition": "service_healthy", "required": True}
        for name in ("postgres", "clickhouse", "redis", "store")
    }


def _kept(name: str, target: str) -> Volume:
    return {"type": "volume", "source": name, "target": target}


def _owned_by(user: str) -> str:
    uid, _, gid = user.partition(":")
    return f"mode=0700,uid={uid},gid={gid}"


def _asked(port: int, path: str) -> Healthcheck:
    return _checked("wget", "-q", "-T", "3", "-O", "/dev/null", f"http://127.0.0.1:{port}{path}", start_s=MIGRATIONS_S)


def _checked(*command: str, start_s: int = 60) -> Healthcheck:
    return {
        "test": ["CMD", *command],
        "interval": "10s",
        "timeout": "5s",
        "retries": 5,
        "start_period": f"{start_s}s",
    }
