"""`load-tests/targets.json`: what there is to load, for k6, Locust and the capacity search."""

from collections.abc import Sequence
from typing import TypedDict

from corral.farm import FarmFile, Server
from corral.render.document import Rendered, json_file
from corral.render.litellm import url_of


class ObjectiveTarget(TypedDict):
    """What thresholds are made of: seconds, and a share of requests."""

    ttft_p95_s: float
    duration_p95_s: float | None
    error_share: float


class ModelTarget(TypedDict):
    """A model, asked for through the gate. Limits are those of all its servers together; None: no limit."""

    name: str
    mode: str
    aliases: list[str]
    servers: list[str]
    slots: int
    context: int
    rpm: int | None
    tpm: int | None
    objectives: ObjectiveTarget


class ServerTarget(TypedDict):
    """A server, asked directly."""

    name: str
    model: str
    mode: str
    url: str
    slots: int


class Targets(TypedDict):
    """The whole file."""

    farm: str
    gate: str
    models: list[ModelTarget]
    servers: list[ServerTarget]


def render(farm: FarmFile, servers: Sequence[Server]) -> Rendered:
    """Return the targets of load tests as a file. Keys come by environment."""
    return json_file("load-tests/targets.json", {**targets(farm, servers, gate_url(farm))})


def targets(farm: FarmFile, servers: Sequence[Server], gate: str) -> Targets:
    """Return the targets of load tests, of a farm whose gate applications reach at `gate`."""
    serving = {server.model_name for server in servers}
    models = [_model(name, servers) for name in farm.models if name in serving]
    return {"farm": farm.name, "gate": gate, "models": models, "servers": [_server(each) for each in servers]}


def gate_url(farm: FarmFile) -> str:
    """Return where applications reach the gate; where it listens everywhere, by its host's address."""
    listen = farm.proxy.listen
    address = farm.hosts[farm.gate_host].address if listen in ("0.0.0.0", "::") else listen  # noqa: S104  # compared
    return f"http://[{address}]:{farm.proxy.port}" if ":" in address else f"http://{address}:{farm.proxy.port}"


def _model(name: str, servers: Sequence[Server]) -> ModelTarget:
    own = [server for server in servers if server.model_name == name]
    model, count = own[0].model, len(own)
    limits = model.limits
    return {
        "name": name,
        "mode": model.mode,
        "aliases": list(model.aliases),
        "servers": [server.name for server in own],
        "slots": model.slots * count,
        "context": model.context,
        "rpm": limits.rpm * count if limits and limits.rpm else None,
        "tpm": limits.tpm * count if limits and limits.tpm else None,
        "objectives": {
            "ttft_p95_s": model.objectives.ttft_p95_s,
            "duration_p95_s": model.objectives.duration_p95_s,
            "error_share": model.objectives.error_share,
        },
    }


def _server(server: Server) -> ServerTarget:
    return {
        "name": server.name,
        "model": server.model_name,
        "mode": server.model.mode,
        "url": url_of(server),
        "slots": server.model.slots,
    }
