"""The parts of a one-machine farm: what the keeper starts, in which order, and how it knows that each is ready."""

import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from corral.default_farm import Farm, Server
from corral.models.catalogue import CATALOGUE
from corral.paths import CHECKOUT, StateDir
from corral.ports import HOST
from corral.secrets import Secrets

OWNER_VARIABLE = "CORRAL_FARM"
"""The farm's mark, set to its state folder in every process of it and nowhere else: what is left of a farm is found
by it, and killed. Not a variable for people; theirs is CORRAL_STATE."""

SYSTEM_VARIABLES = frozenset(
    {"PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
)
DEVICE_VARIABLE_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "VK_", "OMP_", "SSL_", "PYTHON")


@dataclass(frozen=True)
class Part:
    """One process of the farm.

    Args:
        name: unique; also the log file's name.
        kind: a `job` ends by itself and must end well; a `service` goes on.
        argv: the command, absolute.
        environment: the whole environment of the process.
        needs: names of parts that must be ready (services) or done (jobs) before.
        port: TCP port on the loopback; 0 for a job.
        ready_path: HTTP path that answers 200 when the part serves; empty: a TCP connect suffices.
        ready_timeout_s: longest time from start to ready (service) or to the end (job).
        stop_signal: asks it to stop.
        stop_timeout_s: after that, SIGKILL to its process group.
    """

    name: str
    kind: Literal["job", "service"]
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    needs: tuple[str, ...] = ()
    port: int = 0
    ready_path: str = ""
    ready_timeout_s: float = 120.0
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 10.0

    @property
    def address(self) -> str:
        """Where it listens, `host:port`; empty for a job."""
        return f"{HOST}:{self.port}" if self.port else ""

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Part":
        """Return the part that `to_json` wrote."""
        return cls(**{**value, "argv": tuple(value["argv"]), "needs": tuple(value["needs"])})


def parts(
    farm: Farm, ports: Mapping[str, int], secrets: Secrets, state: StateDir, environment: Mapping[str, str]
) -> tuple[Part, ...]:
    """Return the parts of a farm, jobs first.

    Args:
        farm: the servers.
        ports: by part name: `postgres`, `litellm` and each server.
        secrets: given to the parts that need them, each its own.
        state: where data and logs lie.
        environment: this process's; parts get the system's variables of it, LiteLLM all (providers' keys).
    """
    owner = {OWNER_VARIABLE: str(state.root), "PYTHONUNBUFFERED": "1"}
    system = {
        name: value
        for name, value in environment.items()
        if name in SYSTEM_VARIABLES or name.startswith(DEVICE_VARIABLE_PREFIXES)
    }
    embedded = str(Path(sys.executable).with_name("litellm-embedded"))
    database_url = (
        f"postgresql://litellm:{quote(secrets.postgres_password, safe='')}@{HOST}:{ports['postgres']}/litellm"
    )
    engine = Part(
        name="engine",
        kind="job",
        argv=(embedded, "install"),
        environment={**environment, **owner},
        ready_timeout_s=600,
    )
    models = Part(
        name="models",
        kind="job",
        argv=(sys.executable, "-m", "corral.models", "prepare", "--into", str(state.models)),
        environment={**system, **owner},
        ready_timeout_s=300,
    )
    postgres = Part(
        name="postgres",
        kind="service",
        argv=(embedded, "postgres", "--data", str(state.postgres_data), "--port", str(ports["postgres"])),
        environment={**system, **owner, "POSTGRES_PASSWORD": secrets.postgres_password},
        port=ports["postgres"],
        ready_timeout_s=60,
        stop_signal=signal.SIGINT,  # "fast": does not wait for clients to leave
    )
    litellm = Part(
        name="litellm",
        kind="service",
        argv=(
            *(embedded, "proxy", "--config", str(state.litellm_config)),
            *("--host", HOST, "--port", str(ports["litellm"])),
        ),
        environment={
            **environment,
            **owner,
            **_not_by_proxy(environment),
            "PYTHONPATH": str(CHECKOUT / "litellm" / "hooks"),
            "DATABASE_URL": database_url,
            "LITELLM_MASTER_KEY": secrets.litellm_master_key,
            "LITELLM_SALT_KEY": secrets.litellm_salt_key,
            "UI_USERNAME": secrets.ui_username,
            "UI_PASSWORD": secrets.ui_password,
            "GPU_SERVER_KEY": secrets.gpu_server_key,
        },
        needs=("engine", "postgres"),
        port=ports["litellm"],
        ready_path="/health/readiness",
        ready_timeout_s=240,
        stop_timeout_s=8,
    )
    servers = tuple(
        _gpu_server(server, ports[server.name], secrets, state, {**system, **owner}, farm.llama_server)
        for server in farm.servers
    )
    return (engine, models, postgres, litellm, *servers)


def _not_by_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Keep the farm's own traffic off an HTTP proxy that the environment names for the rest of the world."""
    named = [environment.get(name, "") for name in ("NO_PROXY", "no_proxy")]
    hosts = ",".join(dict.fromkeys([*filter(None, ",".join(named).split(",")), HOST, "localhost"]))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def _gpu_server(
    server: Server,
    port: int,
    secrets: Secrets,
    state: StateDir,
    base: Mapping[str, str],
    llama_server: Path | None,
) -> Part:
    model = server.model
    settings = {
        "SERVER_NAME": server.name,
        "MODEL_PATH": str(CATALOGUE[model.name].location(state.models)),
        "MODEL_ALIAS": model.name,
        "MODE": model.mode,
        "N_GPU_LAYERS": "999" if server.on_gpu else "0",
        "N_CTX": str(model.context * model.slots),
        "N_PARALLEL": str(model.slots),
        "N_THREADS": str(server.threads),
        "N_BATCH": "512",
        "N_UBATCH": "512",
        "HOST": HOST,
        "PORT": str(port),
        "API_KEY": secrets.gpu_server_key,
        "LOG_FORMAT": "text",
    }
    if model.mode == "chat":
        settings |= {"CACHE_TYPE_K": "q8_0", "CACHE_TYPE_V": "q8_0", "CACHE_REUSE": "256", "CACHE_RAM_MIB": "256"}
    if llama_server:
        settings["LLAMA_SERVER"] = str(llama_server)
    if server.gpu_uuid:
        settings["GPU_UUID"] = server.gpu_uuid
    if server.device:
        settings["EXTRA_ARGS"] = f"--device {server.device}"
    return Part(
        name=server.name,
        kind="service",
        argv=(str(Path(sys.executable).with_name("gpu-server")),),
        environment={**base, **settings},
        needs=("models",),
        port=port,
        ready_path="/health",
        ready_timeout_s=300,
        stop_timeout_s=8,
    )
