"""The settings of a gpu-server (contract 1) that a farm file decides, the same in every kind of container."""

from pathlib import PurePosixPath

from corral.farm import Server
from corral.models.sources import PathSource
from corral.render.document import number
from corral.render.memory import cache_ram_mib

MODELS = PurePosixPath("/models")
"""Where a container sees its host's models folder."""
FILES = PurePosixPath("/gguf")
"""Where it sees a file that lies elsewhere."""
ALL_LAYERS = 999
API_KEY = "API_KEY"


def settings(server: Server, *, servers_on_host: int, listen: str = "0.0.0.0") -> dict[str, str]:  # noqa: S104  # in a container; what is published says who reaches it
    """Return the settings of a server in a container, all but its key.

    Args:
        server: any but an image server.
        servers_on_host: who shares its host's cores.
        listen: the address in the container.
    """
    model, serving = server.model, server.model.serving
    given: dict[str, str | int | float | None] = {
        "SERVER_NAME": server.name,
        "MODEL_PATH": str(model_path(server)),
        "MODEL_ALIAS": server.model_name,
        "MODE": model.mode,
        "MMPROJ_PATH": str(projector_path(server)) if model.projector else None,
        "N_GPU_LAYERS": _layers(server),
        "N_CTX": model.total_context,
        "N_PARALLEL": model.slots,
        "N_BATCH": model.batch,
        "N_UBATCH": model.ubatch,
        "N_THREADS": _threads(server, servers_on_host),
        "CACHE_TYPE_K": model.kv_cache.k,
        "CACHE_TYPE_V": model.kv_cache.v,
        "CACHE_REUSE": model.cache_reuse if model.mode == "chat" else None,
        "CACHE_RAM_MIB": cache_ram_mib(server),
        "EXTRA_ARGS": " ".join(model.extra_args) or None,
        "GPU_UUID": server.gpu.uuid if server.gpu and _layers(server) else None,
        "HOST": listen,
        "PORT": server.port,
        "MAX_QUEUE": serving.max_queue,
        "QUEUE_TIMEOUT_S": number(serving.queue_timeout_s),
        "FIRST_BYTE_TIMEOUT_S": number(serving.first_byte_timeout_s),
        "STALL_TIMEOUT_S": number(serving.stall_timeout_s),
        "DRAIN_TIMEOUT_S": number(serving.drain_timeout_s),
        "MAX_BODY_MIB": number(serving.max_body_mib),
        "ALLOW_REMOTE_MEDIA": str(serving.allow_remote_media).lower(),
        "LOG_FORMAT": "json",
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def model_path(server: Server) -> PurePosixPath:
    """Return where the container of a server sees its GGUF: what `corral models pull` fetched is NAME.gguf."""
    folder = FILES if isinstance(server.model.source, PathSource) else MODELS
    return folder / f"{server.model_name}.gguf"


def projector_path(server: Server) -> PurePosixPath:
    """Return where the container of a server sees its projector."""
    return FILES / f"{server.model_name}.projector.gguf"


def _layers(server: Server) -> int:
    if server.gpu_index is None:
        return 0
    return ALL_LAYERS if server.model.gpu_layers == "all" else server.model.gpu_layers


def _threads(server: Server, sharing: int) -> int | None:
    if server.model.threads is not None or server.host.cores is None:
        return server.model.threads
    return max(1, server.host.cores // sharing)
