"""What `make bench-routing` measures: routers as their users start them, before real servers or simulated ones.

Two real gpu-servers (SmolLM2 on the CPU) serve all routers, one after the other. Simulated servers cost no time of the
processor, so each router has eight of its own (`routing_sim.over_http`), and all are measured at the same time.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rust_router import rust_router

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from corral.farm import servers_of  # noqa: E402
from corral.render.litellm import config  # noqa: E402
from support.gate_without_keys import MASTER_KEY, gate_without_keys  # noqa: E402
from support.gpu_servers import KEY, GpuServer, environment  # noqa: E402
from support.ports import free_port  # noqa: E402
from support.random_farms import farm_of  # noqa: E402
from support.waiting import wait_until  # noqa: E402

FARM = """
hosts: {{box: {{}}}}
models:
  chat: {{source: {{hub: o/r, file: m.gguf}}}}
servers:
  - {{model: chat, host: box, count: {}, ports: {}}}
"""
BASE = "LiteLLM least-busy"
RUST = "smg (Rust), cache-aware"
OURS = "this gate"
STRATEGIES = {"LiteLLM simple-shuffle": "simple-shuffle", BASE: "least-busy", OURS: ""}
NAMES = (*STRATEGIES, RUST)
READY_TIMEOUT_S = 30


@dataclass(frozen=True)
class Routed:
    """A router: its address, its key, and the ports of the servers behind it."""

    url: str
    key: str
    ports: Sequence[int]


@contextmanager
def real_farm(folder: Path) -> Iterator[dict[str, Routed]]:
    """Run two gpu-servers and all routers before them; gives the routers by their names."""
    with ExitStack() as running:
        servers = [
            running.enter_context(GpuServer(folder / f"{n}.log", SERVER_NAME=f"chat-{n}", N_CTX=8192, N_PARALLEL=4))
            for n in (1, 2)
        ]
        for server in servers:
            server.ready()
        ports = [server.port for server in servers]
        found = {name: running.enter_context(_router(name, ports, folder)) for name in NAMES}
        yield {name: router for name, router in found.items() if router is not None}


@contextmanager
def simulated_farm(folder: Path, servers: int) -> Iterator[dict[str, Routed]]:
    """Run so many simulated servers for each router; gives the routers by their names."""
    with ExitStack() as running:
        found = {}
        for name in NAMES:
            ports = [free_port() for _ in range(servers)]
            running.enter_context(_simulated(ports, folder / "simulated.log"))
            found[name] = running.enter_context(_router(name, ports, folder))
        yield {name: router for name, router in found.items() if router is not None}


@contextmanager
def _simulated(ports: Sequence[int], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "routing_sim.over_http", *map(str, ports)], stdout=output, stderr=output,
            env=environment(PYTHONPATH=f"{CHECKOUT / 'load-tests'}:{CHECKOUT / 'litellm' / 'hooks'}"),
        )  # fmt: skip

    def ready() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"the simulated servers ended: {log.read_text()[-2000:]}")
        return all(httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success for port in ports)

    try:
        wait_until(ready, READY_TIMEOUT_S, "the simulated servers to listen")
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _router(name: str, ports: Sequence[int], folder: Path) -> Iterator[Routed | None]:
    with ExitStack() as running:
        if name == RUST:
            started = running.enter_context(rust_router(ports, free_port, folder / "smg.log", KEY))
            yield started and Routed(f"http://127.0.0.1:{started[1]}", KEY, ports)
            return
        farm = farm_of(FARM.format(len(ports), list(ports)), folder)
        rendered = config(farm, servers_of(farm))
        if strategy := STRATEGIES[name]:  # LiteLLM's own way
            rendered = {
                **rendered,
                "router_settings": {**rendered["router_settings"], "routing_strategy": strategy},
                "litellm_settings": {**rendered["litellm_settings"], "callbacks": []},
            }
        yield Routed(running.enter_context(gate_without_keys(folder / name, rendered, workers=1)), MASTER_KEY, ports)
