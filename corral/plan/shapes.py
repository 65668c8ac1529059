"""A server of the farm file as llama-server sees it: what of its settings decides its memory."""

import shlex

from corral.farm.model import Model
from corral.farm.servers import Server
from corral.planner.estimate_server import ALL_LAYERS, Device, FlashAttention, Mode, ServerShape

DEFAULT_CACHE_RAM_MIB = 512  # gpu-server's CACHE_RAM_MIB

_FLASH: dict[str, FlashAttention] = {
    "on": "on", "1": "on", "true": "on", "off": "off", "0": "off", "false": "off", "auto": "auto", "-1": "auto",
}  # fmt: skip
_FLASH_FLAGS = ("-fa", "--flash-attn")
_UNIFIED_FLAGS = ("-kvu", "--kv-unified")
# They move or add memory in ways that are not reckoned.
_UNPLANNED_FLAGS = frozenset(
    {
        "--cpu-moe", "-cmoe", "--n-cpu-moe", "-ncmoe", "--override-tensor", "-ot", "--model-draft", "-md", "--lora",
        "--lora-scaled", "--control-vector", "--no-kv-offload", "-nkvo", "--tensor-split", "-ts", "--split-mode", "-sm",
        "--swa-full", "--no-mmap", "--mlock", "--ctx-checkpoints", "--spec-type", "--no-mmproj-offload",
        "--no-op-offload",
    }
)  # fmt: skip


def device_of(server: Server) -> Device:
    """Return where its layers run."""
    return Device.CPU if server.gpu_index is None else Device.CUDA


def shape_of(server: Server, projector_bytes: int = 0) -> ServerShape:
    """Return the settings that its llama-server gets; the prompt cache is left out, for its limit comes after.

    Raises:
        GgufError: the settings contradict one another.
    """
    model = server.model
    words = _words(model)
    on_gpu = server.gpu_index is not None
    layers = ALL_LAYERS if model.gpu_layers == "all" else model.gpu_layers
    return ServerShape(
        context=model.total_context,
        slots=model.slots,
        batch=model.batch,
        ubatch=model.ubatch,
        gpu_layers=layers if on_gpu else 0,
        type_k=model.kv_cache.k,
        type_v=model.kv_cache.v,
        flash_attention=_flash(words),
        mode=_mode(model),
        kv_unified=any(word in _UNIFIED_FLAGS for word in words),
        cache_ram_mib=0,
        mmproj_bytes=projector_bytes if on_gpu else 0,
    )


def unplanned_flags(model: Model) -> tuple[str, ...]:
    """Return those of its further flags that change its memory in a way that is not planned."""
    return tuple(word for word in _words(model) if word in _UNPLANNED_FLAGS)


def _words(model: Model) -> list[str]:
    words: list[str] = []
    for line in model.extra_args:
        try:
            words += shlex.split(line)
        except ValueError:  # an open quotation mark: gpu-server refuses it at its start
            words.append(line)
    return [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]


def _flash(words: list[str]) -> FlashAttention:
    for place, word in enumerate(words):
        if word in _FLASH_FLAGS:
            value = words[place + 1] if place + 1 < len(words) else ""
            return _FLASH.get(value, "on")  # older ones had the flag without a value
    return "auto"


def _mode(model: Model) -> Mode:
    return model.mode if model.mode in ("embedding", "rerank") else "chat"
