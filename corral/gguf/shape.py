"""The sizes of a model that decide what a server of it needs: layers, heads, windows, recurrent states.

Follows `llama_model_base::load_hparams` (src/llama-model.cpp), `llama_hparams` (src/llama-hparams.cpp) and each
architecture's `load_arch_hparams` (src/models/*.cpp) of llama.cpp b11434.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from corral.gguf.errors import GgufError
from corral.gguf.header import Header, SkippedArray

POOLINGS = ("none", "mean", "cls", "last", "rank")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's attention and state, in elements; zero where it has none.

    `key_row` and `value_row` are what a token adds to the KV cache (heads x length). `window` is how many tokens back
    a sliding-window layer looks, 0 for one that sees everything. `state_row` is a sequence's recurrent state.
    `cached` is false if the layer reads an earlier one's cache.
    """

    heads: int
    kv_heads: int
    key_length: int
    value_length: int
    key_row: int
    value_row: int
    feed_forward: int
    window: int
    state_row: int
    cached: bool


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model's sizes. `layers` leaves out extra layers for multi-token prediction, which `predict_layers` counts."""

    architecture: str
    layers: tuple[Layer, ...]
    predict_layers: int
    embedding: int
    embedding_out: int
    vocabulary: int
    context_train: int
    experts: int
    experts_used: int
    expert_feed_forward: int
    causal: bool
    kv_cache: bool
    pooling: str
    rope_dimensions: int
    rope_base: float

    @property
    def layer_count(self) -> int:
        """All layers of the file: `--n-gpu-layers` counts these, and the output as one more."""
        return len(self.layers) + self.predict_layers

    @property
    def recurrent(self) -> bool:
        """Whether any layer keeps a recurrent state."""
        return any(layer.state_row for layer in self.layers)


class _Window(NamedTuple):
    """An architecture's sliding window: the size if the file names none, every which layer is a full one, from where.

    `period` 0 means that all layers slide. `required`: without the key there is no sliding at all.
    """

    period: int
    dense_first: bool = False
    default_window: int = 0


# Architectures whose files need not carry the pattern. Others slide only if the file has one.
_WINDOWS: Mapping[str, _Window] = MappingProxyType(
    {
        "gemma2": _Window(2, default_window=4096),
        "gemma3": _Window(6),
        "gemma3n": _Window(5),
        "gemma-embedding": _Window(6),
        "cohere2": _Window(4),
        "cohere2moe": _Window(4),
        "gpt-oss": _Window(2),
        "llama4": _Window(4, default_window=8192),
        "olmo2": _Window(4),
        "smallthinker": _Window(4, dense_first=True),
        "afmoe": _Window(4),
        "modern-bert": _Window(3, dense_first=True),
        "exaone4": _Window(4, default_window=4096),
        "exaone-moe": _Window(4, default_window=128),
        "plamo3": _Window(8),
        "mellum": _Window(4),
    }
)
# Their files name a window that llama.cpp does not use.
_WINDOW_IGNORED = frozenset(
    {"phi3", "phimoe", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "mistral3", "llama", "starcoder2"}
)
_EXAONE4_SLIDING_LAYERS = 64  # the 32B model; smaller ones do not slide

_WITHOUT_CACHE = frozenset(
    {
        "bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert", "modern-bert",
        "gemma-embedding", "wavtokenizer-dec", "dream", "llada", "llada-moe", "rnd1", "clef",
    }
)  # fmt: skip
_NOT_CAUSAL = _WITHOUT_CACHE | {"t5encoder"}
_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
# Hybrids: recurrent are the layers without KV heads, all but each n-th, or (beside attention) all.
_RECURRENT_WITHOUT_HEADS = frozenset(
    {"jamba", "granitehybrid", "lfm2", "lfm2moe", "plamo2", "kimi-linear", "nemotron_h", "nemotron_h_moe"}
)
_RECURRENT_INTERVAL = frozenset({"qwen3next", "qwen35", "qwen35moe"})
_RECURRENT_BESIDE = frozenset({"falcon-h1"})
_DEFAULT_INTERVAL = 4
# Caches of kinds that are not reckoned here: sparse-attention indexers and the like.
UNKNOWN_CACHES = frozenset(
    {"deepseek32", "deepseek4", "glm-dsa", "glm5-next", "minimax-m3", "qwen4exp", "dots3note", "dflash", "kimi-k3",
     "bailingmoe3", "minimax-01"}
)  # fmt: skip
_GEMMA3N_CACHED_LAYERS = 20


def model_shape(header: Header) -> ModelShape:
    """Derive a model's sizes from its header.

    Raises:
        GgufError: the header lacks a size that every model has, or the model is of a kind that cannot be planned.
    """
    if header.architecture in UNKNOWN_CACHES:
        raise GgufError(
            f"{header.source}: the cache of architecture {header.architecture} is of a kind that cannot be planned",
            "give the server's memory by hand, or measure it with --confirm",
        )
    return _Reader(header).shape()


class _Reader:
    """Reads sizes with llama.cpp's defaults."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._count = self._required("block_count")
        self._embedding = self._required("embedding_length")
        self._heads = self._a_layer("attention.head_count", (0,) * self._count)
        self._kv_heads = self._a_layer("attention.head_count_kv", self._heads)
        self._feed_forward = self._a_layer("feed_forward_length", (0,) * self._count)
        head = self._embedding // self._heads[0] if self._heads[0] else 0
        self._key = self._integer("attention.key_length", head)
        self._value = self._integer("attention.value_length", head)

    def shape(self) -> ModelShape:
        header = self._header
        predict = self._integer("nextn_predict_layers", 0)
        architecture = header.architecture
        causal = header.find("attention.causal")
        return ModelShape(
            architecture=architecture,
            layers=tuple(self._layer(index) for index in range(self._count - predict)),
            predict_layers=predict,
            embedding=self._embedding,
            embedding_out=self._integer("embedding_length_out", self._embedding),
            vocabulary=self._vocabulary(),
            context_train=self._required("context_length"),
            experts=self._integer("expert_count", 0),
            experts_used=max(self._a_layer("expert_used_count", (0,) * self._count)),
            expert_feed_forward=max(self._a_layer("expert_feed_forward_length", self._feed_forward)),
            causal=causal if isinstance(causal, bool) else architecture not in _NOT_CAUSAL,
            kv_cache=architecture not in _WITHOUT_CACHE and architecture not in _RECURRENT,
            pooling=POOLINGS[self._integer("pooling_type", 0) % len(POOLINGS)],
            rope_dimensions=self._integer("rope.dimension_count", self._key),
            rope_base=self._number("rope.freq_base", 10_000.0),
        )

    def _layer(self, index: int) -> Layer:
        window = self._window(index)
        recurrent = self._is_recurrent(index)
        beside = self._header.architecture in _RECURRENT_BESIDE
        attends = self._header.architecture not in _RECURRENT and (not recurrent or beside)
        if self._header.architecture.startswith("nemotron_h"):
            attends = attends and self._feed_forward[index] == 0
        kv_heads = self._kv_heads[index] if attends else 0
        key = self._integer("attention.key_length_swa", self._key) if window else self._key
        value = self._integer("attention.value_length_swa", self._value) if window else self._value
        return Layer(
            heads=self._heads[index] if attends else 0,
            kv_heads=kv_heads,
            key_length=key,
            value_length=value,
            key_row=kv_heads * key,
            value_row=0 if self._is_mla() else kv_heads * value,
            feed_forward=self._feed_forward[index],
            window=window,
            state_row=self._state_row() if recurrent or beside else 0,
            cached=index < self._cached_layers(),
        )

    def _window(self, index: int) -> int:
        architecture = self._header.architecture
        known = _WINDOWS.get(architecture)
        window = self._integer("attention.sliding_window", known.default_window if known else 0)
        if not window or architecture in _WINDOW_IGNORED:
            return 0
        if architecture == "exaone4" and self._count != _EXAONE4_SLIDING_LAYERS:
            return 0
        if architecture == "llama4":
            window = 8192
        pattern = self._header.find("attention.sliding_window_pattern")
        if isinstance(pattern, tuple):
            return window if index < len(pattern) and pattern[index] else 0
        if architecture in ("lfm2", "lfm2moe"):
            return 0 if self._is_recurrent(index) else window
        if known is None and not isinstance(pattern, int):
            return 0
        period = int(pattern) if isinstance(pattern, int) else known.period if known else 0
        full = 0 if known and known.dense_first else period - 1
        return 0 if period and index % period == full else window

    def _is_recurrent(self, index: int) -> bool:
        architecture = self._header.architecture
        if architecture in _RECURRENT:
            return True
        if architecture in _RECURRENT_WITHOUT_HEADS:
            nemotron = architecture.startswith("nemotron_h")
            return self._kv_heads[index] == 0 and not (nemotron and self._feed_forward[index])
        if architecture in _RECURRENT_INTERVAL:
            return (index + 1) % self._integer("full_attention_interval", _DEFAULT_INTERVAL) != 0
        return False

    def _state_row(self) -> int:
        """Elements of a sequence's state in one layer: `n_embd_r` + `n_embd_s` of llama-hparams.cpp."""
        if wkv := self._integer("wkv.head_size", 0):
            return self._integer("token_shift_count", 2) * self._embedding + self._embedding * wkv
        if cache := self._integer("shortconv.l_cache", 0):
            return self._embedding * (cache - 1)
        convolution = max(self._integer("ssm.conv_kernel", 0) - 1, 0)
        if kda := self._integer("kda.head_dim", 0):
            return 3 * (convolution or 3) * self._heads[0] * kda + kda * kda * self._heads[0]
        inner, state = self._integer("ssm.inner_size", 0), self._integer("ssm.state_size", 0)
        return convolution * (inner + 2 * self._integer("ssm.group_count", 0) * state) + state * inner

    def _is_mla(self) -> bool:
        """Multi-head latent attention keeps one compressed row a token, of which keys and values are made."""
        return bool(self._integer("attention.key_length_mla", 0) and self._integer("attention.value_length_mla", 0))

    def _cached_layers(self) -> int:
        if self._header.architecture == "gemma3n":
            return _GEMMA3N_CACHED_LAYERS
        return self._count - self._integer("attention.shared_kv_layers", 0)

    def _vocabulary(self) -> int:
        tokens = self._header.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, SkippedArray):
            return tokens.length
        return len(tokens) if isinstance(tokens, tuple) else self._integer("vocab_size", 0)

    def _required(self, key: str) -> int:
        value = self._integer(key, -1)
        if value < 0 or (value == 0 and key != "context_length"):
            raise GgufError(
                f"{self._header.source} does not say {self._header.architecture}.{key}",
                "give the .gguf file of a language or embedding model",
            )
        return value

    def _integer(self, key: str, default: int) -> int:
        value = self._header.find(key)
        return value if isinstance(value, int) else default

    def _number(self, key: str, default: float) -> float:
        value = self._header.find(key)
        return float(value) if isinstance(value, int | float) else default

    def _a_layer(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return a value for each layer; files give one for all, or an array."""
        value = self._header.find(key)
        if isinstance(value, tuple) and len(value) >= self._count:
            return tuple(int(item) for item in value[: self._count])
        return (value,) * self._count if isinstance(value, int) else default
