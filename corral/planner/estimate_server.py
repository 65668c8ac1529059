"""What of a server's settings decides its memory, and llama-server's own adjustments of them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from corral.gguf.errors import GgufError
from corral.gguf.shape import ModelShape
from corral.gguf.tensor_types import BY_NAME, TensorType

CONTEXT_STEP = 256  # llama-context.cpp pads the context, and each slot's share, to this
ALL_LAYERS = 10_000

Mode = Literal["chat", "embedding", "rerank"]
FlashAttention = Literal["on", "off", "auto"]

# From best to cheapest: what a mend may go down to.
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


class Device(StrEnum):
    """Where the layers run, which decides how buffers are aligned and which kernels need room of their own."""

    CUDA = "cuda"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class ServerShape:
    """Settings of one llama-server; the names of gpu-server's settings are in brackets.

    Attributes:
        context: tokens of all slots together (N_CTX).
        slots: requests answered at the same time (N_PARALLEL).
        batch: prompt tokens handled in one go (N_BATCH).
        ubatch: tokens in one pass on the device (N_UBATCH).
        gpu_layers: layers on the GPU, the output counting as one (N_GPU_LAYERS); more than there are: all.
        type_k: ggml type of the cache's keys (CACHE_TYPE_K).
        type_v: of its values (CACHE_TYPE_V).
        flash_attention: `auto` is on where the device can, which the planner takes for granted.
        mode: what it serves (MODE).
        kv_unified: one cache shared by all slots, instead of an equal share for each.
        cache_ram_mib: host memory for idle prompts, -1 for no limit (CACHE_RAM_MIB).
        mmproj_bytes: size of the projector's file (MMPROJ_PATH), which lies beside the model on the GPU.
    """

    context: int = 8192
    slots: int = 1
    batch: int = 512
    ubatch: int = 512
    gpu_layers: int = ALL_LAYERS
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: FlashAttention = "auto"
    mode: Mode = "chat"
    kv_unified: bool = False
    cache_ram_mib: int = 512
    mmproj_bytes: int = 0

    def __post_init__(self) -> None:
        for name, least in (("context", 1), ("slots", 1), ("batch", 1), ("ubatch", 1), ("gpu_layers", 0)):
            if getattr(self, name) < least:
                raise GgufError(f"{name} is {getattr(self, name)}", f"give {least} or more")
        for name, kind in (("type_k", self.type_k), ("type_v", self.type_v)):
            if kind not in CACHE_TYPES:
                raise GgufError(f"{name} {kind!r} is no type of a KV cache", f"give one of {', '.join(CACHE_TYPES)}")
        if self.flash_attention == "off" and BY_NAME[self.type_v].quantised:
            raise GgufError(
                f"type_v {self.type_v} needs flash attention, which is off", "turn it on, or set type_v to f16"
            )


@dataclass(frozen=True, slots=True)
class Resolved:
    """The numbers that llama-server works with, after its own rounding and limits (the constructor of llama_context).

    `context_slot` is what one slot may hold; `streams` how many separate caches there are, each of `cells` tokens.
    `tokens` is what one pass computes at most, `outputs` for how many of them it gives logits or embeddings.
    """

    context: int
    context_slot: int
    streams: int
    cells: int
    tokens: int
    outputs: int
    slots: int
    ubatch: int
    flash: bool
    embeddings: bool
    type_k: TensorType
    type_v: TensorType


def resolve(model: ModelShape, server: ServerShape) -> Resolved:
    """Return what llama-server makes of the settings for this model."""
    context = _padded(server.context)
    streams = 1 if server.kv_unified else server.slots
    context_slot = context if server.kv_unified else _padded(context // server.slots)
    embeddings = server.mode != "chat"
    batch = min(server.batch, server.ubatch) if embeddings else server.batch
    if model.causal:
        batch = min(batch, server.context)
    ubatch = min(batch, server.ubatch)
    tokens = min(context_slot * streams, ubatch)
    return Resolved(
        context=context_slot * streams,
        context_slot=context_slot,
        streams=streams,
        cells=context_slot,
        tokens=_multiple(tokens, server.slots),
        outputs=tokens if embeddings else min(tokens, server.slots),
        slots=server.slots,
        ubatch=ubatch,
        flash=server.flash_attention != "off",
        embeddings=embeddings,
        type_k=BY_NAME[server.type_k],
        type_v=BY_NAME[server.type_v],
    )


def _padded(tokens: int) -> int:
    return _multiple(tokens, CONTEXT_STEP)


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of
