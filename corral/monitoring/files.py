"""What Prometheus and Alertmanager read, in the farm's state folder, with the addresses that the farm really has."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.errors import CorralError
from corral.farm import FarmFile, Server
from corral.farm.gate import Monitoring
from corral.paths import CHECKOUT
from corral.ports import HOST
from corral.render import prometheus
from corral.render.document import yaml_file
from corral.render.key_budgets import queries

SHIPPED = CHECKOUT / "monitoring"
QUERIES = "queries.yml"
GATE_KEY = "gate-metrics-key"
CONFIGURE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Layout:
    """Ports on the loopback, by part: `litellm`, and those of the monitoring that are here."""

    folder: Path
    ports: Mapping[str, int]

    @property
    def prometheus_config(self) -> Path:
        """Prometheus's configuration."""
        return self.folder / "prometheus.yml"

    @property
    def gate_key(self) -> Path:
        """The key to the gate's metrics, mode 600."""
        return self.folder / GATE_KEY

    def address(self, part: str) -> str | None:
        """Return where a part listens; None if it is not here."""
        return f"{HOST}:{self.ports[part]}" if part in self.ports else None


def write(
    layout: Layout, farm: FarmFile, servers: Sequence[Server], environment: Mapping[str, str] | None
) -> list[str]:
    """Write all of it; return what there is to say.

    Args:
        layout: where.
        farm: the farm file that runs.
        servers: with the ports that they have.
        environment: of this process, with ALERT_* in it. Without any of these the receivers that are there stay: who
            restarts it in the night must not silence it. None keeps them too, where there are none as well.

    Raises:
        CorralError: a receiver of alerts is wrong.
    """
    for folder in (layout.folder, layout.folder / "targets", layout.folder / "rules"):
        folder.mkdir(mode=0o700, exist_ok=True)
    rules = SHIPPED / "prometheus" / "rules"
    node, ((host, _),) = layout.address("node-exporter"), farm.hosts.items()
    places = prometheus.Places(
        prometheus=f"{HOST}:{layout.ports['prometheus']}",
        alertmanager=layout.address("alertmanager"),
        gate=f"{HOST}:{layout.ports['litellm']}",
        gate_host=host,
        gate_key_file=GATE_KEY,
        postgres=layout.address("pg-exporter"),
        nodes={host: node} if node else {},
        prober=layout.address("blackbox-exporter"),
        rules=("rules/farm.yml", str(rules / "alerts.yml"), str(rules / "recording.yml")),
    )
    settings = farm.monitoring or Monitoring()
    (layout.folder / QUERIES).write_text(queries(QUERIES).text, encoding="utf-8")
    for path, document in (
        ("prometheus.yml", prometheus.configuration(farm, settings, places)),
        ("targets/gpu-servers.yml", prometheus.targets(servers)),
        ("rules/farm.yml", prometheus.parameters(servers)),
    ):
        (layout.folder / path).write_text(yaml_file(path, document).text, encoding="utf-8")
    if places.alertmanager is None or _stay(layout.folder / "alertmanager.yml", environment):
        return []
    return _receivers(layout.folder, environment or {})


def _stay(receivers: Path, environment: Mapping[str, str] | None) -> bool:
    """Return whether people are told as they were before."""
    if not receivers.exists():
        return False
    if environment is None:
        return True
    given = any(name.startswith("ALERT_") for name in environment)
    return not given and "send_resolved" in receivers.read_text(encoding="utf-8")


def _receivers(folder: Path, environment: Mapping[str, str]) -> list[str]:
    done = subprocess.run(
        ["sh", SHIPPED / "alertmanager" / "configure.sh", folder],
        env=dict(environment), capture_output=True, text=True, timeout=CONFIGURE_TIMEOUT_S, check=False,
    )  # fmt: skip
    said = [line.removeprefix("configure.sh: ") for line in done.stderr.splitlines()]
    if done.returncode:
        raise CorralError(
            said[-1] if said else "Alertmanager cannot be configured", "correct that variable", exit_code=2
        )
    return said
