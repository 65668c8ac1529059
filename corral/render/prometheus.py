"""`monitoring/prometheus/`: whom to scrape, and what the farm file promises, as series that rules can compare with."""

from collections.abc import Iterator, Sequence
from typing import Required, TypedDict

from corral.farm import FarmFile, Server
from corral.farm.gate import Monitoring
from corral.render.document import Rendered, number, yaml_file

FOLDER = "monitoring/prometheus"


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
    file_sd_configs: list[dict[str, list[str]]]
    static_configs: list[TargetGroup]
    relabel_configs: list[dict[str, object]]


def render(farm: FarmFile, servers: Sequence[Server]) -> Iterator[Rendered]:
    """Give Prometheus's configuration, targets and parameters; nothing where the farm has no monitoring."""
    if farm.monitoring is None:
        return
    measured = [server for server in servers if server.model.mode != "image"]
    yield yaml_file(f"{FOLDER}/prometheus.yml", _configuration(farm, farm.monitoring))
    yield yaml_file(f"{FOLDER}/targets/gpu-servers.yml", [_target(server) for server in measured])
    rules = list(_parameters(measured))
    yield yaml_file(f"{FOLDER}/rules/farm.yml", {"groups": [{"name": "corral-farm-file", "rules": rules}]})


def _configuration(farm: FarmFile, monitoring: Monitoring) -> dict[str, object]:
    in_containers = farm.hosts[farm.monitoring_host].runtime == "compose"
    alertmanager = "alertmanager:9093" if in_containers else f"127.0.0.1:{monitoring.alertmanager_port}"
    scrapes: list[Scrape] = [
        {
            "job_name": "gpu-server",
            "file_sd_configs": [{"files": ["targets/gpu-servers.yml"]}],
            # by the server's name, which stays when it moves to another port
            "relabel_configs": [{"source_labels": ["server"], "target_label": "instance"}],
        },
        {"job_name": "prometheus", "static_configs": [{"targets": ["localhost:9090"], "labels": {}}]},
    ]
    if not in_containers:
        scrapes[1]["static_configs"][0]["targets"] = [f"127.0.0.1:{monitoring.prometheus_port}"]
    return {
        "global": {
            "scrape_interval": f"{monitoring.scrape_interval_s}s",
            "evaluation_interval": f"{monitoring.scrape_interval_s}s",
            "external_labels": {"farm": farm.name},
        },
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": scrapes,
    }


def _target(server: Server) -> TargetGroup:
    address = server.host.address
    host = f"[{address}]" if ":" in address else address
    labels = {"server": server.name, "host": server.host_name, "model": server.model_name, "mode": server.model.mode}
    return {"targets": [f"{host}:{server.port}"], "labels": labels}


def _parameters(servers: Sequence[Server]) -> Iterator[Rule]:
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
