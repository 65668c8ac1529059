"""Whether the gate lets servers add up: throughput of 1, 2, 4 and 8 simulated servers behind a real gate.

A simulated server has slots and a time of service, and takes next to no CPU, so what is missing to N times the
throughput of one server is what the gate, its routing and k6 cost. As many streams are kept open as there are slots.

    .venv/bin/python load-tests/scaling.py      about 6 minutes; prints Markdown, writes bench-results/scaling.json

Less than 95 % of linear on a quiet machine: see which server got less (routing), and the gate's CPU
(docs/fast-path.md).
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from corral.errors import CorralError  # noqa: E402
from corral.loadtest import k6  # noqa: E402
from corral.render.litellm import HOOKS, ROUTING_HOOK  # noqa: E402
from support.gate import MASTER_KEY, deployment, running_gate  # noqa: E402  # it starts gates as the farm does
from support.postgres import running_postgres  # noqa: E402
from support.simulated_farm import SimulatedFarm  # noqa: E402

SETTINGS = {
    "routing_strategy": "least-busy", "num_retries": 2, "retry_after": 0, "allowed_fails": 3, "cooldown_time": 5,
}  # fmt: skip


def config(farm: SimulatedFarm) -> dict[str, Any]:
    """Return the gate's configuration, as `corral render` writes it, before the simulated servers."""
    servers = [deployment("sim", server.name, f"{farm.url}/{server.name}/v1") for server in farm.servers]
    return {
        "model_list": servers,
        "router_settings": SETTINGS,
        "litellm_settings": {"callbacks": [*HOOKS, ROUTING_HOOK], "telemetry": False},
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY",
            "database_url": "os.environ/DATABASE_URL",
            "database_connection_pool_limit": 5,
        },
    }


def measured(farm: SimulatedFarm, gate_url: str, pid: int, folder: Path, seconds: int) -> dict[str, Any]:
    """Return the throughput, the gate's CPU and each server's share."""
    folder.mkdir(exist_ok=True)
    targets = {**farm.targets(), "gate": gate_url}
    (folder / "targets.json").write_text(json.dumps(targets))
    slots = sum(server.slots for server in farm.servers)
    settings = {
        "TARGETS": str(folder / "targets.json"), "API_KEY": MASTER_KEY, "STREAMS": str(slots),
        "DURATION_S": str(seconds),
    }  # fmt: skip
    gate = psutil.Process(pid)
    before = sum(gate.cpu_times()[:2])
    k6.run("streams", folder, settings, quiet=True)
    summary = json.loads((folder / "summary.json").read_text())
    cores = (sum(gate.cpu_times()[:2]) - before) / summary["seconds"]
    (model,) = summary["models"]
    return {**model, "gate_cores": cores, "shares": [server["requests"] for server in summary["servers"]]}


def table(result: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    rows = ["| servers | requests a minute | of linear | errors | TTFT p95 | gate's cores | answers by server |"]
    rows.append("|---|---|---|---|---|---|---|")
    alone = result["1"]["requests_per_minute"]
    for count, found in result.items():
        rate = found["requests_per_minute"]
        shares = " ".join(map(str, found["shares"]))
        rows.append(
            f"| {count} | {rate:.0f} | {rate / alone / int(count):.1%} | {found['error_share']:.1%} "
            f"| {found['ttft_p95_ms']:.0f} ms | {found['gate_cores']:.2f} | {shares} |"
        )
    return "\n".join(rows)


def main(
    seconds: Annotated[int, typer.Option(min=5, help="Length of each run.")] = 60,
    service_s: Annotated[float, typer.Option(min=0.1, help="How long a request holds a slot.")] = 2.0,
    slots: Annotated[int, typer.Option(min=1, help="Slots of each server.")] = 2,
) -> None:
    """Measure and print."""
    try:
        k6.binary()
    except CorralError as error:
        sys.exit(str(error))
    result: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="corral-scaling-") as temporary,
        running_postgres(Path(temporary)) as database,
    ):
        for count in (1, 2, 4, 8):
            folder = Path(temporary) / str(count)
            with (
                SimulatedFarm(servers=count, slots=slots, service_s=service_s) as farm,
                running_gate(folder, database, config(farm), {}) as gate,
            ):
                measured(farm, gate.url, gate.pid, folder / "warm", 5)
                result[str(count)] = measured(farm, gate.url, gate.pid, folder / "run", seconds)
    written = CHECKOUT / "bench-results"
    written.mkdir(exist_ok=True)
    (written / "scaling.json").write_text(json.dumps(result, indent=1))
    print(table(result))


if __name__ == "__main__":
    typer.run(main)
