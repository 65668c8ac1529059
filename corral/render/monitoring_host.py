"""`monitoring/compose.yaml`: Prometheus, Alertmanager, Grafana and what probes, on the network of their host.

They are asked by nobody but people, ask many, and listen where the farm file says: on the loopback unless told
otherwise. On a bridged network they could reach neither a gate nor a GPU server that listens on the loopback.

What Prometheus and Alertmanager read as files comes by environment, and is written to memory when they start: their
images take no secrets from variables.
"""

from collections.abc import Iterator, Sequence

from corral.farm import FarmFile, Server
from corral.farm.gate import Monitoring
from corral.render import exporters, prometheus
from corral.render.compose import (
    ComposeFile,
    External,
    Healthcheck,
    Service,
    Text,
    Variable,
    compose_file,
    hardened,
    mounted,
)
from corral.render.document import Rendered
from corral.render.prometheus import at, reached

PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"
ALERTMANAGER_IMAGE = "prom/alertmanager:v0.28.1"
BLACKBOX_IMAGE = "prom/blackbox-exporter:v0.27.0"
GRAFANA_IMAGE = "grafana/grafana:11.6.0"
NOBODY = 65534
GRAFANA_USER = 472
RETENTION_SIZE = "8GB"
"""Whichever comes first, this or the farm file's days: the disk is never filled by series."""

GATE_METRICS_KEY = Variable("GATE_METRICS_KEY", "a key that may read the gate's metrics, in .env; docs/monitoring.md")
RECEIVERS = (
    "ALERT_WEBHOOK_URL", "ALERT_HEARTBEAT_URL", "ALERT_MAIL_TO", "ALERT_MAIL_FROM", "ALERT_SMTP_HOST",
    "ALERT_SMTP_USER", "ALERT_SMTP_PASSWORD",
)  # fmt: skip
"""Whom Alertmanager tells; see monitoring/alertmanager/configure.sh. A farm may do without each of them."""

_SECRETS_FOLDER = "/run/corral"
_KEEP_KEY = f'umask 077 && printf %s "$GATE_METRICS_KEY" >{prometheus.GATE_KEY_FILE} && exec /bin/prometheus "$@"'
_CONFIGURE = f'sh /etc/corral/alertmanager/configure.sh {_SECRETS_FOLDER} && exec /bin/alertmanager "$@"'


def render(farm: FarmFile, servers: Sequence[Server]) -> Iterator[Rendered]:
    """Give all files of the monitoring: configuration, the compose file of its host, and each host's exporters."""
    yield from prometheus.render(farm, servers)
    yield from exporters.render(farm, servers)
    if farm.monitoring is None or farm.hosts[farm.monitoring_host].runtime != "compose":
        return
    services = {
        "prometheus": _prometheus(farm.monitoring),
        "alertmanager": _alertmanager(farm.monitoring),
        "grafana": _grafana(farm.monitoring),
    }
    volumes: dict[str, External | dict[str, str]] = {name: {} for name in services}
    if farm.monitoring.probes:
        services["blackbox-exporter"] = _blackbox_exporter()
    document: ComposeFile = {"name": f"{farm.name}-monitoring", "services": services, "volumes": volumes}
    yield compose_file("monitoring/compose.yaml", document)


def _prometheus(monitoring: Monitoring) -> Service:
    return hardened({
        "image": PROMETHEUS_IMAGE,
        "user": f"{NOBODY}:{NOBODY}",
        "entrypoint": ["/bin/sh", "-c", _KEEP_KEY, "prometheus"],
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.time={monitoring.retention_days}d",
            f"--storage.tsdb.retention.size={RETENTION_SIZE}",
            f"--web.listen-address={at(monitoring.listen, monitoring.prometheus_port)}",
        ],
        "environment": {"GATE_METRICS_KEY": GATE_METRICS_KEY},
        "network_mode": "host",
        "volumes": [
            mounted("./prometheus", "/etc/prometheus"),
            mounted(_shipped("CORRAL_RULES", "prometheus/rules"), prometheus.SHIPPED_RULES),
            {"type": "volume", "source": "prometheus", "target": "/prometheus"},
        ],
        "tmpfs": [_private(_SECRETS_FOLDER, NOBODY)],
        "healthcheck": _asked(monitoring, monitoring.prometheus_port, "/-/ready"),
        "mem_limit": "2048m",
        "pids_limit": 256,
        "stop_grace_period": "60s",
    })  # fmt: skip


def _alertmanager(monitoring: Monitoring) -> Service:
    environment: dict[str, Text] = {name: Variable(name, default="") for name in RECEIVERS}
    return hardened({
        "image": ALERTMANAGER_IMAGE,
        "user": f"{NOBODY}:{NOBODY}",
        "entrypoint": ["/bin/sh", "-c", _CONFIGURE, "alertmanager"],
        "command": [
            f"--config.file={_SECRETS_FOLDER}/alertmanager.yml",
            "--storage.path=/alertmanager",
            "--cluster.listen-address=",  # one alone: no gossip, no second port
            f"--web.listen-address={at(monitoring.listen, monitoring.alertmanager_port)}",
        ],
        "environment": environment,
        "network_mode": "host",
        "volumes": [
            mounted(_shipped("CORRAL_ALERTMANAGER", "alertmanager"), "/etc/corral/alertmanager"),
            {"type": "volume", "source": "alertmanager", "target": "/alertmanager"},
        ],
        "tmpfs": [_private(_SECRETS_FOLDER, NOBODY)],
        "healthcheck": _asked(monitoring, monitoring.alertmanager_port, "/-/ready"),
        "mem_limit": "256m",
        "pids_limit": 128,
        "stop_grace_period": "10s",
    })  # fmt: skip


def _grafana(monitoring: Monitoring) -> Service:
    folder = "/etc/corral/grafana"
    return hardened({
        "image": GRAFANA_IMAGE,
        "user": f"{GRAFANA_USER}:0",
        "environment": {
            "GF_SECURITY_ADMIN_PASSWORD": Variable("GRAFANA_ADMIN_PASSWORD"),
            "GF_SERVER_HTTP_ADDR": monitoring.listen,
            "GF_SERVER_HTTP_PORT": str(monitoring.grafana_port),
            "GF_PATHS_PROVISIONING": f"{folder}/provisioning",
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": f"{folder}/dashboards/farm.json",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
            "GF_PLUGINS_PREINSTALL_DISABLED": "true",
            "PROMETHEUS_URL": f"http://{at(reached(monitoring.listen), monitoring.prometheus_port)}",
            "DASHBOARDS": f"{folder}/dashboards",
        },
        "network_mode": "host",
        "volumes": [
            mounted(_shipped("CORRAL_GRAFANA", "grafana"), folder),
            {"type": "volume", "source": "grafana", "target": "/var/lib/grafana"},
        ],
        "tmpfs": ["/tmp"],  # noqa: S108  # the container's own
        "healthcheck": _asked(monitoring, monitoring.grafana_port, "/api/health"),
        "mem_limit": "512m",
        "pids_limit": 256,
        "stop_grace_period": "20s",
    })  # fmt: skip


def _blackbox_exporter() -> Service:
    """Return what asks the probed addresses. Whoever reaches it can have it ask anything: the loopback only."""
    listen = at(prometheus.LOOPBACK, prometheus.BLACKBOX_EXPORTER_PORT)
    return hardened({
        "image": BLACKBOX_IMAGE,
        "user": f"{NOBODY}:{NOBODY}",
        "command": ["--config.file=/etc/corral/blackbox/blackbox.yml", f"--web.listen-address={listen}"],
        "network_mode": "host",
        "volumes": [
            mounted(_shipped("CORRAL_BLACKBOX", "blackbox"), "/etc/corral/blackbox"),
            # an authority of one's own counts where the host trusts it
            mounted("/etc/ssl/certs", "/etc/ssl/certs"),
        ],
        "healthcheck": _answering(f"http://{listen}/-/healthy"),
        "mem_limit": "128m",
        "pids_limit": 64,
        "stop_grace_period": "5s",
    })  # fmt: skip


def _shipped(variable: str, path: str) -> Variable:
    """Return a folder that is the same for every farm: beside the compose file, unless `.env` says where else."""
    return Variable(variable, default=f"./{path}")


def _private(path: str, user: int) -> str:
    return f"{path}:size=1m,mode=0700,uid={user},gid={user}"


def _asked(monitoring: Monitoring, port: int, path: str) -> Healthcheck:
    return _answering(f"http://{at(reached(monitoring.listen), port)}{path}")


def _answering(url: str) -> Healthcheck:
    return {
        "test": ["CMD", "wget", "-q", "-T", "3", "-O", "/dev/null", url],
        "interval": "10s",
        "timeout": "5s",
        "retries": 3,
        "start_period": "60s",
    }
