"""Which tensors lie on the GPU, as llama.cpp places them (`llama_model_base::load_tensors`, b11434).

With `--n-gpu-layers n` the last n of (layers + 1) go to the GPU; the one beyond the last layer is the output. The token
embedding always stays on the host: it is only looked up. A model without an output matrix uses the embedding for it,
and then has it on both.
"""

from dataclasses import dataclass

from corral.gguf.header import Header, TensorInfo
from corral.gguf.shape import ModelShape
from corral.gguf.tensor_types import BY_NAME
from corral.planner.estimate_server import Device

ALIGNMENT = {Device.CUDA: 128, Device.CPU: 64}
_CUDA_ROW_ELEMENTS = 512  # MATRIX_ROW_PADDING: quantised kernels read rows in steps of so many
_EMBEDDING = "token_embd.weight"
_INPUTS = frozenset({_EMBEDDING, "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight"})
# Encoders give embeddings, without an output matrix; all other models without one use the token embedding.
_NO_OUTPUT = frozenset(
    {"bert", "eurobert", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe"}
)
_SHARED_BY_LAYERS = ("rope_freqs.", "rope_factors_long.", "rope_factors_short.")
_FIRST_LAYER = "token_embd_norm."


@dataclass(frozen=True, slots=True)
class Placement:
    """Bytes of weights on each side. `gpu_layers` counts the output as one, as the setting does."""

    gpu: int
    host: int
    gpu_layers: int
    first_gpu_layer: int
    largest_host_layer: int


def place_weights(header: Header, model: ModelShape, gpu_layers: int, device: Device) -> Placement:
    """Return what lies where with `gpu_layers` layers on the GPU; more than there are mean all."""
    total = model.layer_count + 1
    on_gpu = min(gpu_layers, total)
    first = total - on_gpu
    gpu = host = 0
    host_layers: dict[int, int] = {}
    for tensor in header.tensors:
        layer = _layer(tensor, model.layer_count)
        if layer >= first or (tensor.name.startswith(_SHARED_BY_LAYERS) and on_gpu > 1):
            gpu += buffer_size(tensor.type, tensor.shape[0], tensor.bytes, device)
        else:
            host += tensor.bytes
            host_layers[layer] = host_layers.get(layer, 0) + tensor.bytes
    tied = next((tensor for tensor in header.tensors if tensor.name == _EMBEDDING), None)
    if on_gpu and tied and _is_tied(header):
        gpu += buffer_size(tied.type, tied.shape[0], tied.bytes, device)
    host_layers.pop(-1, None)
    return Placement(gpu, host, on_gpu, first, max(host_layers.values(), default=0))


def buffer_size(type_name: str, row: int, size: int, device: Device) -> int:
    """Return the bytes that a tensor takes in a buffer of `device`: ggml-cuda pads the last row of quantised ones."""
    kind = BY_NAME[type_name]
    if device is Device.CUDA and kind.quantised and row % _CUDA_ROW_ELEMENTS:
        size += kind.size(_CUDA_ROW_ELEMENTS - row % _CUDA_ROW_ELEMENTS)
    alignment = ALIGNMENT[device]
    return -(-size // alignment) * alignment


def _layer(tensor: TensorInfo, count: int) -> int:
    """Return the layer a tensor belongs to: -1 for inputs, `count` for the output."""
    if tensor.name in _INPUTS:
        return -1
    if tensor.name.startswith("blk."):
        index = tensor.name.split(".", 2)[1]
        return int(index) if index.isdecimal() else count
    return 0 if tensor.name.startswith((*_SHARED_BY_LAYERS, _FIRST_LAYER)) else count


def _is_tied(header: Header) -> bool:
    has_output = any(tensor.name == "output.weight" for tensor in header.tensors)
    return not has_output and header.architecture not in _NO_OUTPUT
