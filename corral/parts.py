"""The parts of a one-machine farm: what the keeper starts, in which order, and how it knows that each is ready."""

import hashlib
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from corral.local_farm import LocalFarm, LocalServer, cache_ram_mib
from corral.models.sources import PackageSource
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

DOWNLOAD_TIMEOUT_S = 12 * 3600.0


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
        ready_path: HTTP path that answers 200 when the part serves; empty: it is PostgreSQL.
        ready_timeout_s: longest time from start to ready (service) or to the end (job).
        stop_signal: asks it to stop.
        stop_timeout_s: after that, SIGKILL to its process group.
        drain_timeout_s: the same where it is replaced while the farm goes on: its work may end.
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
    drain_timeout_s: float = 10.0
    revision: str = ""
    """Differs where the part would run differently: what `corral apply` compares. Says nothing of secrets."""

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
    farm: LocalFarm,
    ports: Mapping[str, int],
    secrets: Secrets,
    state: StateDir,
    farm_file: Path,
    environment: Mapping[str, str],
    gate_config: str,
) -> tuple[Part, ...]:
    """Return the parts of a farm, jobs first.

    Args:
        farm: the servers.
        ports: by part name: `postgres`, `litellm` and each server.
        secrets: given to the parts that need them, each its own.
        state: where data and logs lie.
        farm_file: the file that the farm was read from.
        environment: this process's; parts get the system's variables of it, LiteLLM all (providers' keys).
        gate_config: LiteLLM's configuration, written here under a name of its own, so that an earlier one stays.
    """
    config = state.litellm_config(_digest(gate_config))
    config.write_text(gate_config, encoding="utf-8")
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
        argv=(
            *(str(Path(sys.executable).with_name("corral")), "models", "pull"),
            *("--file", str(farm_file), "--into", str(state.models)),
        ),
        environment={**environment, **owner},  # a download may need the proxy and the hub's token
        ready_timeout_s=300 if _is_packaged(farm) else DOWNLOAD_TIMEOUT_S,
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
            *(embedded, "proxy", "--config", str(config)),
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
        revision=_digest(gate_config),
    )
    servers = tuple(
        _gpu_server(server, ports[server.name], secrets, {**system, **owner}, farm.llama_server)
        for server in farm.servers
    )
    return (engine, models, postgres, litellm, *servers)


def _not_by_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Keep the farm's own traffic off an HTTP proxy that the environment names for the rest of the world."""
    named = [environment.get(name, "") for name in ("NO_PROXY", "no_proxy")]
    hosts = ",".join(dict.fromkeys([*filter(None, ",".join(named).split(",")), HOST, "localhost"]))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def _is_packaged(farm: LocalFarm) -> bool:
    return all(isinstance(server.model.source, PackageSource) for server in farm.servers)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _gpu_server(
    server: LocalServer,
    port: int,
    secrets: Secrets,
    base: Mapping[str, str],
    llama_server: Path | None,
) -> Part:
    settings = _settings(server, port, llama_server)
    argv = (str(Path(sys.executable).with_name("gpu-server")),)
    return Part(
        name=server.name,
        kind="service",
        argv=argv,
        environment={**base, **settings, "API_KEY": secrets.gpu_server_key},
        needs=("models",),
        port=port,
        ready_path="/health",
        ready_timeout_s=300,
        stop_timeout_s=8,
        drain_timeout_s=server.model.serving.drain_timeout_s + 10,
        revision=_digest(json.dumps([argv, settings], sort_keys=True)),
    )


def _settings(server: LocalServer, port: int, llama_server: Path | None) -> dict[str, str]:
    """Return the settings of contract 1 that say how a server serves; none of them is a secret."""
    model, serving = server.model, server.model.serving
    layers = "999" if model.gpu_layers == "all" else str(model.gpu_layers)
    settings = {
        "SERVER_NAME": server.name,
        "MODEL_PATH": str(server.gguf),
        "MODEL_ALIAS": server.model_name,
        "MODE": model.mode,
        "N_GPU_LAYERS": layers if server.on_gpu else "0",
        "N_CTX": str(model.total_context),
        "N_PARALLEL": str(model.slots),
        "N_THREADS": str(server.threads),
        "N_BATCH": str(model.batch),
        "N_UBATCH": str(model.ubatch),
        "CACHE_TYPE_K": model.kv_cache.k,
        "CACHE_TYPE_V": model.kv_cache.v,
        "MAX_QUEUE": str(serving.max_queue),
        "QUEUE_TIMEOUT_S": f"{serving.queue_timeout_s:g}",
        "FIRST_BYTE_TIMEOUT_S": f"{serving.first_byte_timeout_s:g}",
        "STALL_TIMEOUT_S": f"{serving.stall_timeout_s:g}",
        "DRAIN_TIMEOUT_S": f"{serving.drain_timeout_s:g}",
        "MAX_BODY_MIB": f"{serving.max_body_mib:g}",
        "ALLOW_REMOTE_MEDIA": str(serving.allow_remote_media).lower(),
        "HOST": HOST,
        "PORT": str(port),
        "LOG_FORMAT": "text",
    }
    if model.mode == "chat":
        settings |= {"CACHE_REUSE": str(model.cache_reuse), "CACHE_RAM_MIB": str(cache_ram_mib(model))}
    if model.projector is not None:
        settings["MMPROJ_PATH"] = str(Path(model.projector.path).absolute())
    if llama_server:
        settings["LLAMA_SERVER"] = str(llama_server)
    extra = list(model.extra_args)
    if server.pin is not None and server.pin.uuid:
        settings["GPU_UUID"] = server.pin.uuid
    elif server.pin is not None:
        extra.append(f"--device {server.pin.device}")
    if extra:
        settings["EXTRA_ARGS"] = " ".join(extra)
    return settings
