"""`kubernetes/`: the gpu-servers as Deployments, for those who outgrow compose.

The scheduler places them: hosts and card numbers of the farm file mean nothing here, and each server asks for one whole
`nvidia.com/gpu`. Two servers that share a card in the file need the device plugin's time-slicing here, or two cards.
The gate is not rendered: LiteLLM has a Helm chart of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corral.farm import FarmFile, Server
from corral.models.sources import PathSource
from corral.render.document import Rendered, yaml_file
from corral.render.gpu_host import OWN_IMAGE, STOP_MARGIN_S
from corral.render.settings import API_KEY, FILES, MODELS, settings

Manifest = Mapping[str, Any]

FOLDER = "kubernetes"
SECRET = "corral"  # noqa: S105  # a name
SECRET_KEY = "gpu-server-key"  # noqa: S105  # a name
CLAIM = "corral-models"
CLAIM_SIZE = "200Gi"
USER_ID = 10001
STARTUP_TRIES = 180
"""Ten seconds apart: half an hour, for a large model from slow storage."""


def render(farm: FarmFile, servers: Sequence[Server]) -> Iterator[Rendered]:
    """Give the manifests: the models' volume, the scraping, one file for each server. Image servers are left out."""
    ours = [server for server in servers if server.model.mode != "image"]
    yield yaml_file(f"{FOLDER}/models.yaml", _models_claim(farm))
    yield yaml_file(f"{FOLDER}/pod-monitor.yaml", _pod_monitor(farm))
    for server in ours:
        yield yaml_file(f"{FOLDER}/gpu-servers/{server.name}.yaml", _deployment(farm, server), _service(farm, server))


def _models_claim(farm: FarmFile) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "labels": _farm_labels(farm)},
        "spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": CLAIM_SIZE}}},
    }


def _pod_monitor(farm: FarmFile) -> Manifest:
    interval_s = farm.monitoring.scrape_interval_s if farm.monitoring else 15
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "corral-gpu-servers", "labels": _farm_labels(farm)},
        "spec": {
            "selector": {"matchLabels": {**_farm_labels(farm), "app.kubernetes.io/name": "gpu-server"}},
            "podMetricsEndpoints": [
                {
                    "port": "http",
                    "path": "/metrics",
                    "interval": f"{interval_s}s",
                    "relabelings": [
                        {
                            "sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_instance"],
                            "targetLabel": "instance",
                        }
                    ],
                }
            ],
        },
    }


def _deployment(farm: FarmFile, server: Server) -> Manifest:
    labels = _labels(farm, server)
    drain_s = int(server.model.serving.drain_timeout_s)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": server.name, "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # a second one would wait for the first one's GPU
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,  # their variables look like settings
                    "terminationGracePeriodSeconds": drain_s + STOP_MARGIN_S,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": USER_ID,
                        "runAsGroup": USER_ID,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [_container(server)],
                    "volumes": _volumes(server),
                },
            },
        },
    }


def _container(server: Server) -> Manifest:
    limits: dict[str, Any] = {}
    if server.gpu_index is not None:
        limits["nvidia.com/gpu"] = 1
    if server.memory_mib is not None:
        limits["memory"] = f"{server.memory_mib}Mi"
    health = {"httpGet": {"path": "/health", "port": "http"}}
    given = settings(server, servers_on_host=1)
    given.pop("GPU_UUID", None)  # the device plugin chooses
    key = {"name": API_KEY, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": SECRET_KEY}}}
    return {
        "name": "gpu-server",
        "image": server.host.image or OWN_IMAGE,
        "env": [*({"name": name, "value": _literal(value)} for name, value in given.items()), key],
        "ports": [{"name": "http", "containerPort": server.port}],
        "resources": {"limits": limits},
        "startupProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": STARTUP_TRIES},
        "readinessProbe": {**health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2},
        # The wrapper restarts a llama-server that hangs; /health is 503 then, and killing the pod would only add to it.
        "livenessProbe": {
            "tcpSocket": {"port": "http"},
            "periodSeconds": 20,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            *({"name": "models", "mountPath": str(path), "readOnly": True} for path in _model_folders(server)),
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # the container's own
        ],
    }


def _model_folders(server: Server) -> list[object]:
    """Return where the claim is mounted: a file that a host has by its path must be put into it as NAME.gguf."""
    outside = isinstance(server.model.source, PathSource)
    return [FILES] if outside else [MODELS, FILES] if server.model.projector else [MODELS]


def _volumes(_server: Server) -> list[Manifest]:
    return [
        {"name": "models", "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
    ]


def _service(farm: FarmFile, server: Server) -> Manifest:
    labels = _labels(farm, server)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _service_name(server), "labels": labels},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": server.port, "targetPort": "http"}]},
    }


def _service_name(server: Server) -> str:
    """Return a DNS label; those of Services may not begin with a digit."""
    return server.name if server.name[0].isalpha() else f"s-{server.name}"


def _farm_labels(farm: FarmFile) -> dict[str, str]:
    return {"app.kubernetes.io/part-of": f"corral-{farm.name}"}


def _labels(farm: FarmFile, server: Server) -> dict[str, str]:
    return {
        **_farm_labels(farm),
        "app.kubernetes.io/name": "gpu-server",
        "app.kubernetes.io/instance": server.name,
        "corral/model": server.model_name,
    }


def _literal(value: str) -> str:
    """Return a value in which Kubernetes replaces nothing: it reads $(NAME)."""
    return value.replace("$(", "$$(")
