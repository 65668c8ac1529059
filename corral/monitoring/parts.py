"""The programs of the monitoring as parts that the farm's keeper runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from corral.monitoring.files import QUERIES, SHIPPED, Layout
from corral.parts import OWNER_VARIABLE, SYSTEM_VARIABLES, Part
from corral.paths import StateDir
from corral.ports import HOST
from corral.secrets import Secrets

RETENTION_SIZE = "2GB"
"""On one's own machine, whichever comes first, this or the farm file's days."""


def parts(
    layout: Layout,
    programs: Mapping[str, Path],
    retention_days: int,
    database_port: int,
    state: StateDir,
    secrets: Secrets,
    environment: Mapping[str, str],
) -> tuple[Part, ...]:
    """Return a part for each program that is here.

    Args:
        layout: configuration and ports.
        programs: executables, by part.
        retention_days: how long Prometheus keeps series.
        database_port: PostgreSQL's.
        state: the farm's; series and logs go there.
        secrets: of the farm; the database's exporter gets its password.
        environment: this process's.
    """
    base = {name: value for name, value in environment.items() if name in SYSTEM_VARIABLES}
    base[OWNER_VARIABLE] = str(state.root)
    flags = {
        "prometheus": [
            f"--config.file={layout.prometheus_config}",
            f"--storage.tsdb.path={layout.folder / 'series'}",
            f"--storage.tsdb.retention.time={retention_days}d",
            f"--storage.tsdb.retention.size={RETENTION_SIZE}",
        ],
        "alertmanager": [
            f"--config.file={layout.folder / 'alertmanager.yml'}",
            f"--storage.path={layout.folder / 'alerts'}",
            "--cluster.listen-address=",
        ],
        "pg-exporter": [f"--extend.query-path={layout.folder / QUERIES}"],
        "blackbox-exporter": [f"--config.file={SHIPPED / 'blackbox' / 'blackbox.yml'}"],
    }
    authorities = {name: environment[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in environment}
    extra = {
        "pg-exporter": {
            "DATA_SOURCE_NAME": f"postgresql://litellm:{quote(secrets.postgres_password, safe='')}"
            f"@{HOST}:{database_port}/litellm?sslmode=disable"
        },
        "blackbox-exporter": authorities,
    }
    ready = {"prometheus": "/-/ready", "alertmanager": "/-/ready"}

    def each() -> Iterator[Part]:
        for name, program in programs.items():
            listen = f"--web.listen-address={HOST}:{layout.ports[name]}"
            yield Part(
                name=name,
                kind="service",
                argv=(str(program), *flags.get(name, ()), listen),
                environment={**base, **extra.get(name, {})},
                port=layout.ports[name],
                ready_path=ready.get(name, "/metrics"),
                ready_timeout_s=60,
            )

    return tuple(each())
