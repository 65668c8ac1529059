"""How much memory a llama-server of a model takes, on its GPU and on the host, from the model's header alone.

| part | how good | from |
|---|---|---|
| weights | exact | the header, and llama.cpp's placement of layers |
| cache | exact | padded context, slots, types, sliding windows, recurrent states |
| compute | never under, within +25 % | ggml's allocator replayed over an outline of the graph, and `HEADROOM` |
| scratch | an upper bound | CUDA's flash attention over a cache that is not f16 |
| driver | assumed | `CUDA_CONTEXT_BYTES` |

The first three are tested against llama-server's own figures on its CPU backend. Compute of recurrent layers and of
latent attention (mamba, deepseek2) is only an upper bound, seen up to 1.7 times the true size. Logits are reckoned for
one token a slot, as llama.cpp does since its pull request 23861 (June 2026); older ones reserve them for a whole pass.

With all layers offloaded, CUDA's
buffers hold the same tensors; what differs there is reckoned from the source and not measured: tensors are aligned to
128 bytes and quantised rows padded to 512 elements; inputs and the token embedding's result are made on the host and
copied, so that the graph's inputs count on both sides here; flash attention's f16 copies (`scratch`). With only some
layers offloaded, prompts are computed on the GPU with the host's weights copied over: the largest such layer is added.

The caller adds a margin (`DEFAULT_MARGIN_BYTES`) for what nothing announces: kernels' pools, fragmentation, a display.
"""

from dataclasses import dataclass

from corral.gguf.header import Header
from corral.gguf.shape import ModelShape, model_shape
from corral.planner.estimate_allocator import buffer_bytes
from corral.planner.estimate_cache import Cache, attention_scratch, place_cache
from corral.planner.estimate_graph import compute_graph
from corral.planner.estimate_server import Device, Resolved, ServerShape, resolve
from corral.planner.estimate_weights import ALIGNMENT, Placement, place_weights

MIB = 1024 * 1024

# Kernels, stacks and cuBLAS' workspace of one CUDA process, before it allocates anything: 150 to 250 MiB are usual.
CUDA_CONTEXT_BYTES = 256 * MIB
# What a caller should leave free on a GPU beside all servers on it.
DEFAULT_MARGIN_BYTES = 512 * MIB
# A projector's own compute buffer depends on the image; this is for the usual ones, and not measured.
PROJECTOR_COMPUTE_BYTES = 256 * MIB
# Host memory of a llama-server beside its buffers: the program, its threads, tokenizer, HTTP; more with CUDA's runtime.
PROCESS_BYTES = 96 * MIB
CUDA_PROCESS_BYTES = 256 * MIB
# The outline of a graph may lack a small result: measured 0.998 to 1.002 of the true size without headroom.
HEADROOM = 1.06
HEADROOM_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Bytes on the GPU."""

    weights: int = 0
    cache: int = 0
    compute: int = 0
    scratch: int = 0
    projector: int = 0
    driver: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.compute + self.scratch + self.projector + self.driver


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes on the host.

    `mapped` are weights read from the mapped file: pages the kernel may drop and read again, not counted in `total`
    (`resident` has them). `output` are logits and embeddings. `prompts` is what `--cache-ram` allows; None: no limit.
    """

    mapped: int
    cache: int
    compute: int
    output: int
    prompts: int | None
    process: int

    @property
    def total(self) -> int:
        """What cannot be dropped; without a limit of the prompt cache, that is as much as is used of it besides."""
        return self.cache + self.compute + self.output + (self.prompts or 0) + self.process

    @property
    def resident(self) -> int:
        """With the mapped weights: what a container needs to run at full speed."""
        return self.total + self.mapped


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one llama-server takes.

    `gpu_layers` is how many layers are on the GPU, of `layers` (both count the output). `context_slot` is what a
    request may use, after llama-server's rounding; `context` that of all slots.
    """

    gpu: GpuMemory
    host: HostMemory
    gpu_layers: int
    layers: int
    context: int
    context_slot: int


def estimate(header: Header, server: ServerShape, device: Device = Device.CUDA) -> Estimate:
    """Reckon the memory of a server with these settings.

    With no layers on the GPU, or `Device.CPU`, the GPU's part is nothing: such a server must not see a GPU.

    Raises:
        GgufError: the header lacks a size, or the model is of a kind that cannot be planned.
    """
    model = model_shape(header)
    run = resolve(model, server)
    offload = server.gpu_layers if device is Device.CUDA else 0
    weights = place_weights(header, model, offload, device)
    cache = place_cache(model, run, weights.first_gpu_layer, device)
    graph = compute_graph(header, model, run)
    compute = with_headroom(buffer_bytes(graph, ALIGNMENT[device]))
    inputs = with_headroom(sum(tensor.bytes for tensor in graph.inputs) + 3 * 4 * model.embedding * run.tokens)
    whole = weights.gpu_layers == model.layer_count + 1
    return Estimate(
        gpu=_gpu(server, model, run, weights, cache, compute),
        host=HostMemory(
            mapped=weights.host,
            cache=cache.host,
            compute=inputs if whole else compute,
            output=_output_bytes(model, run),
            prompts=None if server.cache_ram_mib < 0 else _prompts(server),
            process=CUDA_PROCESS_BYTES if weights.gpu_layers else PROCESS_BYTES,
        ),
        gpu_layers=weights.gpu_layers,
        layers=model.layer_count + 1,
        context=run.context,
        context_slot=run.context_slot,
    )


def with_headroom(size: int) -> int:
    """Return a compute buffer's size with what its outline may lack."""
    return int(size * HEADROOM) + HEADROOM_BYTES


def _gpu(
    server: ServerShape, model: ModelShape, run: Resolved, weights: Placement, cache: Cache, compute: int
) -> GpuMemory:
    if not weights.gpu_layers:
        return GpuMemory()
    projector = server.mmproj_bytes + PROJECTOR_COMPUTE_BYTES if server.mmproj_bytes else 0
    return GpuMemory(
        weights=weights.gpu,
        cache=cache.gpu,
        compute=compute + weights.largest_host_layer,
        scratch=attention_scratch(model.layers[weights.first_gpu_layer :], run),
        projector=projector,
        driver=CUDA_CONTEXT_BYTES,
    )


def _output_bytes(model: ModelShape, run: Resolved) -> int:
    """Return the output buffer at its largest; it grows with the first request for more rows (`output_reserve`)."""
    rows = max(run.outputs, run.slots)
    return 4 * rows * (model.vocabulary + (model.embedding_out if run.embeddings else 0))


def _prompts(server: ServerShape) -> int:
    """Idle prompts are kept for chats only."""
    return server.cache_ram_mib * MIB if server.mode == "chat" else 0
