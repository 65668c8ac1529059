"""Which llama-server runs, and with which flags: settings in, a command line out."""

import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from gpu_server.settings import Settings

EMBEDDED_MODULE = "gpu_server.embedded"

# Only at a line's start, behind llama-server's time and level: error messages quote what clients sent.
_DEVICE_ERROR = re.compile(
    r"(?:[\d.]+ [A-Z] )?\s*(?:(?:CUDA|ROCm|MUSA) error\b|ggml_abort\b|\S+:\d+: (?:GGML_ASSERT|CUDA error|fatal error))"
)


@dataclass(frozen=True, slots=True)
class Engine:
    """How to call a llama-server: the words before its flags, and a name for logs and metrics."""

    command: tuple[str, ...]
    kind: str  # "binary" or "embedded"


def find_engine(settings: Settings, search_path: str | None = None) -> Engine:
    """Return LLAMA_SERVER if set, else `llama-server` on the path, else the embedded one."""
    named = shutil.which(settings.llama_server or "llama-server", path=search_path)
    if named:
        return Engine((named,), "binary")
    return Engine((sys.executable, "-m", EMBEDDED_MODULE), "embedded")


def arguments(settings: Settings, port: int) -> list[str]:
    """Return llama-server's flags (b9603 or newer) for `settings`, listening on the loopback at `port`."""
    argv = ["--model", str(settings.model_path), "--alias", settings.alias, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--ctx-size", str(settings.n_ctx), "--parallel", str(settings.n_parallel)]
    argv += ["--batch-size", str(settings.n_batch), "--ubatch-size", str(settings.n_ubatch)]
    argv += ["--cache-type-k", settings.cache_type_k, "--cache-type-v", settings.cache_type_v]
    argv += ["--cache-ram", str(settings.cache_ram_mib), "--metrics", "--slots", "--no-webui"]
    if settings.n_gpu_layers is not None:
        argv += ["--n-gpu-layers", str(settings.n_gpu_layers)]
    if settings.n_threads is not None:
        argv += ["--threads", str(settings.n_threads)]
    if settings.mmproj_path is not None:
        argv += ["--mmproj", str(settings.mmproj_path)]
    return [*argv, *_mode_flags(settings), *settings.extra_argv]


def _mode_flags(settings: Settings) -> list[str]:
    if settings.mode == "embedding":
        return ["--embedding"]
    if settings.mode == "rerank":
        return ["--reranking"]
    flags = ["--jinja"]
    # llama-server turns cache reuse off with a projector, and warns; it has no use for one-off audio either.
    if settings.mode == "chat" and settings.mmproj_path is None:
        flags += ["--cache-reuse", str(settings.cache_reuse)]
    return flags


def child_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of llama-server: ours, without what would change it behind the settings' back.

    llama-server reads `LLAMA_ARG_*` (its images set LLAMA_ARG_HOST=0.0.0.0) and LLAMA_API_KEY by itself; the clients'
    key is none of its business.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("LLAMA_ARG_") and name not in ("LLAMA_API_KEY", "API_KEY")
    }
    if settings.gpu_uuid:
        kept["CUDA_VISIBLE_DEVICES"] = settings.gpu_uuid
    return kept


def is_device_error(line: str) -> bool:
    """Say whether llama-server wrote a line after which it cannot be trusted, even if it still runs."""
    return _DEVICE_ERROR.match(line) is not None
