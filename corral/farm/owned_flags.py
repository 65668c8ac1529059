"""Flags of llama-server that the farm file says in its own words; `extra_args` may not say them a second time."""

from collections.abc import Mapping

OWNED_FLAGS: Mapping[str, str] = {
    **dict.fromkeys(("--model", "-m"), "source"),
    **dict.fromkeys(("--alias", "-a"), "aliases"),
    **dict.fromkeys(("--mmproj", "-mm"), "projector"),
    **dict.fromkeys(("--n-gpu-layers", "--gpu-layers", "-ngl"), "gpu_layers"),
    **dict.fromkeys(("--ctx-size", "-c"), "context"),
    **dict.fromkeys(("--batch-size", "-b"), "batch"),
    **dict.fromkeys(("--ubatch-size", "-ub"), "ubatch"),
    **dict.fromkeys(("--threads", "-t"), "threads"),
    **dict.fromkeys(("--parallel", "-np"), "slots"),
    **dict.fromkeys(("--cache-type-k", "-ctk"), "kv_cache"),
    **dict.fromkeys(("--cache-type-v", "-ctv"), "kv_cache"),
    "--cache-reuse": "cache_reuse",
    **dict.fromkeys(("--cache-ram", "-cram"), "cache_ram_mib"),
    **dict.fromkeys(("--embedding", "--embeddings", "--reranking", "--rerank"), "mode"),
    "--host": "address (of the host)",
    "--port": "ports (of the server)",
    **dict.fromkeys(("--api-key", "--api-key-file"), "GPU_SERVER_KEY (of .env)"),
}
"""What to write in place of a flag: a key of the model, or where else it is said."""
