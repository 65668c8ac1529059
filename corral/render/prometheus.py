"""`monitoring/prometheus/`: whom to scrape, and what the farm file promises, as series that rules can compare with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Required, TypedDict

from corral.farm import FarmFile, Server
from corral.farm.gate import Monitoring
from corral.render.document import Rendered, number, yaml_file

FOLDER = "monitoring/prometheus"
SHIPPED_RULES = "/etc/corral/rules"
"""Where a container finds alerts.yml and recording.yml, which are the same for every farm."""
GATE_KEY_FILE = "/run/corral/gate-metrics-key"
NODE_EXPORTER_PORT = 9100
POSTGRES_EXPORTER_PORT = 9187
BLACKBOX_EXPORTER_PORT = 9115
ROUTING_METRICS = "/corral/metrics"
"""Where the gate gives the metrics of our routing; LiteLLM's own page has them only where it has several workers."""
PROBE_MODULE = "https"
"""A module of monitoring/blackbox/blackbox.yml."""
SCRAPE_TIMEOUT_S = 10
LOOPBACK = "127.0.0.1"
_OF_ROUTING = "corral_routing_.+"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared


class Rule(TypedDict):
    """A recording rule."""

    record: str
    expr: str
    labels: dict[str, str]


class TargetGroup(TypedDict):
    """Targets with the same labels, as file_sd reads them."""

    targets: list[str]
    labels: dict[str, str]


class Scrape(TypedDict, total=False):
    """A scrape job."""

    job_name: Required[str]
    metrics_path: str
    params: dict[str, list[str]]
    authorization: dict[str, str]
    file_sd_configs: list[dict[str, list[str]]]
    static_configs: list[TargetGroup]
    relabel_configs: list[dict[str, object]]
    metric_relabel_configs: list[dict[str, object]]


@dataclass(frozen=True)
class Places:
    """Where things are, as Prometheus sees them; addresses are `host:port`.

    Args:
        prometheus: its own.
        alertmanager: the Alertmanager it sends to; None where there is none.
        gate: LiteLLM.
        gate_host: the name of LiteLLM's host.
        gate_key_file: holds the key with which LiteLLM's metrics are read.
        postgres: the exporter beside LiteLLM's database; None where there is none.
        nodes: each host's node exporter, by the host's name.
        prober: the blackbox exporter; None where there is none.
        rules: rule files, as patterns.
    """

    prometheus: str
    alertmanager: str | None
    gate: str
    gate_host: str
    gate_key_file: str
    postgres: str | None
    nodes: Mapping[str, str]
    prober: str | None
    rules: tuple[str, ...]


def render(farm: FarmFile, servers: Sequence[Server]) -> Iterator[Rendered]:
    """Give Prometheus's configuration, targets and parameters; nothing where the farm has no monitoring."""
    if farm.monitoring is None:
        return
    yield yaml_file(f"{FOLDER}/prometheus.yml", configuration(farm, farm.monitoring, places(farm, farm.monitoring)))
    yield yaml_file(f"{FOLDER}/targets/gpu-servers.yml", targets(servers))
    dumped = farm.gate_host if farm.hosts[farm.gate_host].runtime == "compose" else None
    yield yaml_file(f"{FOLDER}/rules/farm.yml", parameters(servers, dumped_on=dumped))


def places(farm: FarmFile, monitoring: Monitoring) -> Places:
    """Return where everything is in a farm that is laid out as its file says."""
    beside_gate = farm.gate_host == farm.monitoring_host
    gate_address = farm.hosts[farm.gate_host].address
    own = reached(monitoring.listen)
    in_containers = farm.hosts[farm.monitoring_host].runtime == "compose"
    return Places(
        prometheus=at(own, monitoring.prometheus_port),
        alertmanager=at(own, monitoring.alertmanager_port),
        gate=at(reached(farm.proxy.listen) if beside_gate else gate_address, farm.proxy.port),
        gate_host=farm.gate_host,
        gate_key_file=GATE_KEY_FILE if in_containers else "gate-metrics-key",
        postgres=at(LOOPBACK if beside_gate else gate_address, POSTGRES_EXPORTER_PORT),
        nodes={name: at(host.address, NODE_EXPORTER_PORT) for name, host in farm.hosts.items()},
        prober=at(LOOPBACK, BLACKBOX_EXPORTER_PORT),
        # Patterns, since Prometheus refuses a name without one where that file is not there: on the host that renders
        rules=("rules/farm.yml", f"{SHIPPED_RULES}/alerts*.yml", f"{SHIPPED_RULES}/recording*.yml")
        if in_containers
        else ("rules/*.yml",),
    )


def configuration(farm: FarmFile, monitoring: Monitoring, where: Places) -> dict[str, object]:
    """Return `prometheus.yml` as data."""
    gate: list[TargetGroup] = [_one(where.gate, host=where.gate_host)]
    scrapes: list[Scrape] = [
        {
            "job_name": "gpu-server",
            "file_sd_configs": [{"files": ["targets/gpu-servers.yml"]}],
            # by the server's name, which stays when it moves to another port
            "relabel_configs": [{"source_labels": ["server"], "target_label": "instance"}],
        },
        {
            "job_name": "litellm",
            "metrics_path": "/metrics/",  # without the slash LiteLLM answers with a redirect
            "authorization": {"credentials_file": where.gate_key_file},
            "static_configs": gate,
            # LiteLLM's id of a deployment is the server's name: one label for both sides
            "metric_relabel_configs": [
                # of several workers, each page gives what all of prometheus_client's registries hold
                {"source_labels": ["__name__"], "regex": _OF_ROUTING, "action": "drop"},
                {"source_labels": ["model_id"], "regex": "None", "target_label": "model_id", "replacement": ""},
                {"source_labels": ["model_id"], "regex": "(.+)", "target_label": "server"},
                {"action": "labeldrop", "regex": "model_id"},
            ],
        },
        {"job_name": "node", "static_configs": [_one(address, host=name) for name, address in where.nodes.items()]},
        {"job_name": "prometheus", "static_configs": [_one(where.prometheus)]},
    ]
    if farm.proxy.routing.strategy == "least-busy":  # else LiteLLM routes without us
        scrapes.append({
            "job_name": "routing",
            "metrics_path": ROUTING_METRICS,
            "authorization": {"credentials_file": where.gate_key_file},
            "static_configs": gate,
            "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": _OF_ROUTING, "action": "keep"}],
        })  # fmt: skip
    if where.alertmanager:
        scrapes.append({"job_name": "alertmanager", "static_configs": [_one(where.alertmanager)]})
    if where.postgres:
        scrapes.append({"job_name": "postgres", "static_configs": [_one(where.postgres, host=where.gate_host)]})
    if where.prober and monitoring.probes:
        scrapes.append(probes(monitoring.probes, where.prober))
    document: dict[str, object] = {
        "global": {
            "scrape_interval": f"{monitoring.scrape_interval_s}s",
            "scrape_timeout": f"{min(monitoring.scrape_interval_s, SCRAPE_TIMEOUT_S)}s",
            "evaluation_interval": f"{monitoring.scrape_interval_s}s",
            "external_labels": {"farm": farm.name},
        },
        "rule_files": list(where.rules),
        "scrape_configs": scrapes,
    }
    if where.alertmanager:
        document["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [where.alertmanager]}]}]}
    return document


def targets(servers: Sequence[Server]) -> list[TargetGroup]:
    """Return the servers to scrape, with the labels that all of their series get."""
    return [_target(server) for server in _measured(servers)]


def parameters(servers: Sequence[Server], *, dumped_on: str | None = None) -> dict[str, object]:
    """Return what the farm file promises, as recording rules.

    Args:
        servers: of the farm.
        dumped_on: the host whose database is dumped each night; None where that is nobody's promise.
    """
    measured = _measured(servers)
    rules = [*_of_models(measured), *_of_gpus(measured)]
    if dumped_on is not None:
        rules.append({"record": "corral_host_nightly_dump", "expr": "vector(1)", "labels": {"host": dumped_on}})
    return {"groups": [{"name": "corral-farm-file", "rules": rules}]}


def at(address: str, port: int) -> str:
    """Return `host:port` as it stands in a URL."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def reached(listen: str) -> str:
    """Return where the host itself reaches what listens on an address."""
    return LOOPBACK if listen in EVERYWHERE else listen


def probes(urls: Sequence[str], prober: str) -> Scrape:
    """Return the job that has the blackbox exporter ask each URL; `instance` is then the URL."""
    return {
        "job_name": "probe",
        "metrics_path": "/probe",
        "params": {"module": [PROBE_MODULE]},
        "static_configs": [{"targets": list(urls), "labels": {}}],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"source_labels": ["__param_target"], "target_label": "instance"},
            {"target_label": "__address__", "replacement": prober},
        ],
    }


def _one(address: str, **labels: str) -> TargetGroup:
    return {"targets": [address], "labels": labels}


def _measured(servers: Sequence[Server]) -> list[Server]:
    return [server for server in servers if server.model.mode != "image"]


def _target(server: Server) -> TargetGroup:
    labels = {"server": server.name, "host": server.host_name, "model": server.model_name, "mode": server.model.mode}
    return {"targets": [at(server.host.address, server.port)], "labels": labels}


def _of_models(servers: Sequence[Server]) -> Iterator[Rule]:
    """Give what a model may and can do, over all of its servers; limits that the file leaves open have no series."""
    by_model: dict[str, list[Server]] = {}
    for server in servers:
        by_model.setdefault(server.model_name, []).append(server)
    for name, serving in by_model.items():
        model, count = serving[0].model, len(serving)
        values: dict[str, float] = {
            "corral_model_servers": count,
            "corral_model_slots": count * model.slots,
            "corral_model_context_tokens": model.context,
            "corral_model_queue_timeout_seconds": number(model.serving.queue_timeout_s),
        }
        for limit in ("rpm", "tpm", "parallel"):
            if model.limits and (each := getattr(model.limits, limit)):
                values[f"corral_model_limit_{limit}"] = count * each
        for record, value in values.items():
            yield {"record": record, "expr": f"vector({value})", "labels": {"model": name}}


def _of_gpus(servers: Sequence[Server]) -> Iterator[Rule]:
    """Give which servers are to have a card, and what it may draw."""
    for server in servers:
        if server.gpu is None:
            continue
        labels = {"server": server.name, "host": server.host_name, "model": server.model_name}
        yield {"record": "corral_server_gpu", "expr": "vector(1)", "labels": labels}
        if server.gpu.power_limit_w is not None:
            limit = f"vector({server.gpu.power_limit_w})"
            yield {"record": "corral_server_power_limit_watts", "expr": limit, "labels": labels}
