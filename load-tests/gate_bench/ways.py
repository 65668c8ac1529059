"""The ways from a client to the fake server: each is started as its users start it, on a free port."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench_gpu_server import ready
from rust_router import PROGRAM, rust_router

from corral.render.litellm import HOOKS, ROUTING_HOOK
from gate_bench.fake import SLOTS
from support.gate import CALLBACKS, MASTER_KEY, deployment, running_gate
from support.gpu_servers import smollm2
from support.ports import free_port
from support.postgres import Postgres
from support.waiting import wait_until

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
READY_TIMEOUT_S = 60
LOAD_TESTS = Path(__file__).resolve().parent.parent
LIMITS = {"rpm_limit": 10**7, "tpm_limit": 10**9}
NOT_INSTALLED = ("httptools", "opentelemetry/sdk")
"""What LiteLLM's own installation lacks and ours brings."""


@dataclass
class Way:
    """A running way: where it listens, and the process whose CPU is counted; none is the server itself.

    One that `keeps_rows` works on after it has answered.
    """

    port: int
    key: str = "none"
    pid: int | None = None
    keeps_rows: bool = False

    def cpu_s(self) -> float:
        """Return the CPU time of the process so far, without its children's."""
        if self.pid is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def memory_mib(self) -> float:
        """Return its resident memory now."""
        if self.pid is None:
            return 0.0
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


Opened = AbstractContextManager[Way | None]


def all_ways(folder: Path, fake_port: int, database: Callable[[], Postgres]) -> dict[str, Callable[[], Opened]]:
    """Return what opens each way, by its title; opening gives None where the program is not here."""
    gate = partial(litellm, folder, [fake_port, fake_port], database)
    return {
        "direct": partial(direct, fake_port),
        "nginx": partial(nginx, folder, fake_port),
        "smg (Rust)": partial(smg, folder, fake_port),
        "gpu-server": partial(gpu_server, folder),
        "LiteLLM as installed": partial(gate, "installed", "openai", [], without=NOT_INSTALLED),
        **{title: partial(gate, **arguments) for title, arguments in tuned_and_ours().items()},
    }


def tuned_and_ours() -> dict[str, dict[str, Any]]:
    """Return what `litellm` is to be given for the gate as it is rendered, without its fast path and with it."""
    hooks = [*CALLBACKS, "corral_fast_path.fast_path"]
    return {
        "LiteLLM tuned": {"name": "tuned", "provider": "hosted_vllm", "callbacks": hooks, "fast": "off"},
        "Corral's gate": {"name": "fast", "provider": "hosted_vllm", "callbacks": [*HOOKS, ROUTING_HOOK]},
    }


@contextmanager
def direct(fake_port: int) -> Iterator[Way]:
    """No gate at all: what the others are compared with."""
    yield Way(fake_port)


@contextmanager
def nginx(folder: Path, fake_port: int) -> Iterator[Way | None]:
    """A proxy in C, which passes bytes on and knows nothing of keys or servers: the floor."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        yield None
        return
    port, home = free_port(), folder / "nginx"
    home.mkdir()
    (home / "nginx.conf").write_text(
        textwrap.dedent(f"""\
            daemon off; worker_processes 1; master_process off; pid {home}/pid; error_log stderr crit;
            events {{ worker_connections 1024; }}
            http {{
                access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
                fastcgi_temp_path {home}/fastcgi; uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
                upstream server {{ server 127.0.0.1:{fake_port}; keepalive 256; }}
                server {{
                    listen 127.0.0.1:{port};
                    location / {{
                        proxy_pass http://server; proxy_http_version 1.1; proxy_set_header Connection "";
                        proxy_buffering off;
                    }}
                }}
            }}
            """)
    )
    with _process([program, "-p", str(home), "-c", str(home / "nginx.conf")], home / "log") as process:
        _wait_ready(port, process, home / "log")
        yield Way(port, pid=process.pid)


@contextmanager
def smg(folder: Path, fake_port: int) -> Iterator[Way | None]:
    """A router in Rust: chooses among servers by their prompt caches, knows no keys."""
    if not PROGRAM.exists():
        yield None
        return
    with rust_router([fake_port], free_port, folder / "smg.log") as started:
        yield Way(started[1], pid=started[0]) if started else None


@contextmanager
def gpu_server(folder: Path) -> Iterator[Way]:
    """One gpu-server before a fake of its own."""
    fake, port = folder / "llama-server", free_port()
    fake.write_text(f'#!/bin/sh\nPYTHONPATH="{LOAD_TESTS}" exec "{sys.executable}" -m gate_bench.fake "$@"\n')
    fake.chmod(0o755)
    settings = {
        "MODEL_PATH": str(smollm2()), "MODEL_ALIAS": "chat", "LLAMA_SERVER": str(fake), "PORT": str(port),
        "N_PARALLEL": str(SLOTS), "N_CTX": str(SLOTS * 2048), "N_GPU_LAYERS": "0", "PATH": os.environ["PATH"],
    }  # fmt: skip
    log = folder / "gpu-server.log"
    with _process([sys.executable, "-m", "gpu_server.main"], log, settings) as process:
        _wait_ready(port, process, log)
        yield Way(port, pid=process.pid)


@contextmanager
def litellm(
    folder: Path, ports: Sequence[int], database: Callable[[], Postgres], name: str, provider: str,
    callbacks: list[str], *, fast: str = "on", without: tuple[str, ...] = (), server_key: str = "key-of-the-servers",
) -> Iterator[Way]:  # fmt: skip
    """LiteLLM with keys in PostgreSQL, before servers at these ports; the fake's may be given twice."""
    addresses = [f"http://127.0.0.1:{port}/v1" for port in ports]
    servers = [deployment("chat", f"chat-{number}", address) for number, address in enumerate(addresses, 1)]
    for server in servers:
        server["litellm_params"]["model"] = f"{provider}/chat"
    config: dict[str, Any] = {
        "model_list": servers,
        "router_settings": {"routing_strategy": "least-busy", "num_retries": 2, "allowed_fails": 1},
        "litellm_settings": {"callbacks": callbacks, "telemetry": False},
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY", "database_url": "os.environ/DATABASE_URL",
            "database_connection_pool_limit": 10, "proxy_batch_write_at": 1,
        },
    }  # fmt: skip
    environment: Mapping[str, str] = {"CORRAL_FAST_PATH": fast, "GPU_SERVER_KEY": server_key}
    if without:
        environment = {**environment, "PYTHONPATH": str(_hiding(folder / "not-installed", without))}
    with running_gate(folder / name, database(), config, environment) as gate:
        wait_until(lambda: _answers(gate), READY_TIMEOUT_S, f"an answer through {name}")
        yield Way(int(gate.url.rpartition(":")[2]), gate.new_key(key_alias=name, **LIMITS), gate.pid, keeps_rows=True)


def _answers(gate: Any) -> bool:
    answer = gate.ask({"model": "chat", "messages": [{"role": "user", "content": "?"}]}, MASTER_KEY)
    if not answer.is_success:
        raise RuntimeError(answer.text)
    return True


def _hiding(folder: Path, packages: tuple[str, ...]) -> Path:
    """Return a folder that makes packages look as if they were not installed."""
    for package in packages:
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(f"raise ModuleNotFoundError('{package} is not installed')\n")
    return folder


@contextmanager
def _process(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_ready() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} exited: {log.read_text()[-2000:]}")
        return ready(port)

    wait_until(is_ready, READY_TIMEOUT_S, f"port {port} to answer", 0.1)
