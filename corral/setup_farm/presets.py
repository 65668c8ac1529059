"""Models that `corral init` offers, and which of them fit a card.

Sizes are of the files on the hub and of the models' published shapes; what llama-server needs beside weights and KV
cache is estimated on the safe side. `corral plan` computes it from the file itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corral.farm.host import Gpu
from corral.farm.model import KvCache, Model, Objectives, Serving
from corral.models.sources import AnySource, HubSource, PackageSource

MARGIN = 0.05
"""Share of a card that stays free: displays, other programs, fragments."""

WORK_MIB, WORK_SHARE = 700, 0.02
"""CUDA's context and the compute buffers: a floor (half a GiB of it logits of 150,000 tokens), and a share of the
weights, which grows with the model's width."""

ON_CPU = Objectives(ttft_p95_s=15)
"""What load tests hold a model to that a CPU serves."""

PATIENT = Serving(queue_timeout_s=180)
"""Of a chat model that a CPU serves: a crowd of fifty waits over a minute for two cores."""

Fits = Callable[["Preset", Gpu], bool]
"""Whether a server of a preset fits a card."""


@dataclass(frozen=True)
class Preset:
    """A model in a shape that fits a class of cards.

    Attributes:
        name: how clients ask for it, and how `corral init --models` calls it.
        title: for people: name, quantisation, licence.
        weights_mib: size of its GGUF.
        kv_elements: elements of its KV cache for one token: 2 x layers x KV heads x head size.
    """

    name: str
    title: str
    source: AnySource
    quantisation: str
    weights_mib: int
    kv_elements: int
    context: int
    slots: int

    @property
    def is_packaged(self) -> bool:
        """Whether it comes with Corral, without a download."""
        return isinstance(self.source, PackageSource)

    @property
    def needs_mib(self) -> int:
        """Memory of one server, weights and all, estimated: q8_0 takes 34 bytes for 32 elements, f16 64."""
        element_bytes = 2 if self.is_packaged else 34 / 32
        kv_mib = self.kv_elements * element_bytes * self.context * self.slots / 2**20
        return round(self.weights_mib * (1 + WORK_SHARE) + kv_mib + WORK_MIB)

    @property
    def model(self) -> Model:
        """The model as a farm file has it."""
        return Model(
            source=self.source,
            quantisation=self.quantisation,
            context=self.context,
            slots=self.slots,
            # On a CPU q8_0 saves little and reads a prompt of 1,000 tokens at three quarters of the speed.
            kv_cache=KvCache() if self.is_packaged else KvCache(k="q8_0", v="q8_0"),
            aliases=() if self.name == "chat" else ("chat",),
            cache_ram_mib=256 if self.is_packaged else None,
        )


PACKAGED = Preset(
    name="chat",
    title="SmolLM2-135M-Instruct Q4_1, comes with Corral (Apache-2.0)",
    source=PackageSource(package="smollm2-135m-instruct"),
    quantisation="Q4_1",
    weights_mib=94,
    kv_elements=2 * 30 * 3 * 64,
    context=4096,
    slots=2,
)

# From small to large. Single files only: a split model cannot be pulled.
PRESETS: tuple[Preset, ...] = (
    PACKAGED,
    Preset(
        name="qwen2.5-1.5b",
        title="Qwen2.5-1.5B-Instruct Q4_K_M (Apache-2.0)",
        source=HubSource(hub="Qwen/Qwen2.5-1.5B-Instruct-GGUF", file="qwen2.5-1.5b-instruct-q4_k_m.gguf"),
        quantisation="Q4_K_M",
        weights_mib=1066,
        kv_elements=2 * 28 * 2 * 128,
        context=8192,
        slots=2,
    ),
    Preset(
        name="llama-3.2-3b",
        title="Llama-3.2-3B-Instruct Q4_K_M (Llama 3.2 Community License)",
        source=HubSource(hub="bartowski/Llama-3.2-3B-Instruct-GGUF", file="Llama-3.2-3B-Instruct-Q4_K_M.gguf"),
        quantisation="Q4_K_M",
        weights_mib=1926,
        kv_elements=2 * 28 * 8 * 128,
        context=8192,
        slots=2,
    ),
    Preset(
        name="llama-3.1-8b",
        title="Llama-3.1-8B-Instruct Q4_K_M (Llama 3.1 Community License)",
        source=HubSource(
            hub="bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", file="Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf"
        ),
        quantisation="Q4_K_M",
        weights_mib=4693,
        kv_elements=2 * 32 * 8 * 128,
        context=8192,
        slots=2,
    ),
    Preset(
        name="qwen2.5-14b",
        title="Qwen2.5-14B-Instruct Q4_K_M (Apache-2.0)",
        source=HubSource(hub="bartowski/Qwen2.5-14B-Instruct-GGUF", file="Qwen2.5-14B-Instruct-Q4_K_M.gguf"),
        quantisation="Q4_K_M",
        weights_mib=8573,
        kv_elements=2 * 48 * 8 * 128,
        context=8192,
        slots=2,
    ),
    Preset(
        name="qwen2.5-14b-q5",
        title="Qwen2.5-14B-Instruct Q5_K_M, four slots (Apache-2.0)",
        source=HubSource(hub="bartowski/Qwen2.5-14B-Instruct-GGUF", file="Qwen2.5-14B-Instruct-Q5_K_M.gguf"),
        quantisation="Q5_K_M",
        weights_mib=10023,
        kv_elements=2 * 48 * 8 * 128,
        context=8192,
        slots=4,
    ),
    Preset(
        name="qwen2.5-32b",
        title="Qwen2.5-32B-Instruct Q4_K_M (Apache-2.0)",
        source=HubSource(hub="bartowski/Qwen2.5-32B-Instruct-GGUF", file="Qwen2.5-32B-Instruct-Q4_K_M.gguf"),
        quantisation="Q4_K_M",
        weights_mib=18931,
        kv_elements=2 * 64 * 8 * 128,
        context=8192,
        slots=2,
    ),
    Preset(
        name="llama-3.3-70b",
        title="Llama-3.3-70B-Instruct Q4_K_M (Llama 3.3 Community License)",
        source=HubSource(hub="bartowski/Llama-3.3-70B-Instruct-GGUF", file="Llama-3.3-70B-Instruct-Q4_K_M.gguf"),
        quantisation="Q4_K_M",
        weights_mib=40550,
        kv_elements=2 * 80 * 8 * 128,
        context=8192,
        slots=2,
    ),
    Preset(
        name="llama-3.3-70b-wide",
        title="Llama-3.3-70B-Instruct Q4_K_M, four slots of 16k (Llama 3.3 Community License)",
        source=HubSource(hub="bartowski/Llama-3.3-70B-Instruct-GGUF", file="Llama-3.3-70B-Instruct-Q4_K_M.gguf"),
        quantisation="Q4_K_M",
        weights_mib=40550,
        kv_elements=2 * 80 * 8 * 128,
        context=16384,
        slots=4,
    ),
)

EMBED_NAME = "embed"
EMBED = Model(
    mode="embedding",
    source=PackageSource(package="all-minilm-l6-v2"),
    quantisation="F16",
    context=512,
    slots=4,
    objectives=ON_CPU,
)  # fmt: skip


def estimated_fit(preset: Preset, gpu: Gpu) -> bool:
    """Return whether a preset fits a card by this module's figures."""
    return preset.needs_mib <= gpu.memory_mib * (1 - MARGIN)


def best(gpus: Sequence[Gpu], fits: Fits = estimated_fit) -> Preset | None:
    """Return the preset that makes most use of the cards together; None if none fits any.

    A large model on one card is passed over where a smaller one, on all of them, uses more of the memory that is there.
    """

    def used_mib(preset: Preset) -> int:
        return preset.needs_mib * sum(fits(preset, gpu) for gpu in gpus)

    largest_first = sorted(PRESETS, key=lambda preset: preset.needs_mib, reverse=True)
    chosen = max(largest_first, key=used_mib)
    return chosen if used_mib(chosen) else None


def named(name: str) -> Preset | None:
    """Return the preset of a name."""
    return next((preset for preset in PRESETS if preset.name == name), None)
