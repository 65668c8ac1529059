"""The KV cache and recurrent states, to the byte (src/llama-kv-cache*.cpp, src/llama-memory-recurrent.cpp, b11434).

Each layer has a tensor of keys and one of values: a row for each cell, `cells` for each stream. A stream is a slot, or
all slots together when the cache is unified. Recurrent layers keep a state for each slot, in f32.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from corral.gguf.shape import Layer, ModelShape
from corral.planner.estimate_graph import window_cells
from corral.planner.estimate_server import Device, Resolved
from corral.planner.estimate_weights import buffer_size

_STATE_BYTES = 4
_READ_AS_F16 = ("f16", "f32")  # llama.cpp's graph itself turns f32 into f16


@dataclass(frozen=True, slots=True)
class Cache:
    """Bytes of caches and states on each side."""

    gpu: int
    host: int


def place_cache(model: ModelShape, run: Resolved, first_gpu_layer: int, device: Device) -> Cache:
    """Return the caches' sizes; a layer's cache lies where its weights do."""
    gpu = sum(_layer_bytes(model, layer, run, device) for layer in model.layers[first_gpu_layer:])
    host = sum(_layer_bytes(model, layer, run, Device.CPU) for layer in model.layers[:first_gpu_layer])
    return Cache(gpu, host)


def attention_scratch(layers: Iterable[Layer], run: Resolved) -> int:
    """Return what CUDA's flash attention needs beside the cache: one layer's keys and values in f16.

    Its kernels for prompts read f16; a cache of another type is converted, all cells of it, layer by layer
    (`ggml_cuda_flash_attn_ext_get_alloc_size` in ggml-cuda/fattn.cu). Older releases take it from a pool, newer ones
    add it to the compute buffer; it is memory of the GPU in both.
    """
    if not run.flash:
        return 0
    return max((_converted(layer, run) for layer in layers if layer.key_row), default=0)


def _converted(layer: Layer, run: Resolved) -> int:
    keys = 0 if run.type_k.name in _READ_AS_F16 else layer.key_row
    values = 0 if run.type_v.name in _READ_AS_F16 else layer.value_row
    return 2 * run.streams * window_cells(layer.window, run) * (keys + values)


def _layer_bytes(model: ModelShape, layer: Layer, run: Resolved, device: Device) -> int:
    total = _STATE_BYTES * layer.state_row * run.slots
    if not model.kv_cache or not layer.cached:
        return total
    cells = run.streams * window_cells(layer.window, run)
    widest = max(other.value_row for other in model.layers)
    # Without flash attention values are kept transposed, padded to the widest layer's.
    value_row = layer.value_row if run.flash or not layer.value_row else widest
    for kind, row in ((run.type_k, layer.key_row), (run.type_v, value_row)):
        if row:
            total += buffer_size(kind.name, row, kind.size(row) * cells, device)
    return total
