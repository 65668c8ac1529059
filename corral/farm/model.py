"""The models of a farm: where each comes from, and the shape in which it is served."""

from typing import Literal, Self

from pydantic import Field, model_validator

from corral.farm.values import CacheType, Image, ModelMode, ModelName, Part, Plain
from corral.models.sources import PathSource, Source

_LEAST_CONTEXT = 32


class KvCache(Part):
    """ggml types of the KV cache: smaller ones hold more context in the same memory."""

    k: CacheType = Field(default="f16", description="Keys.")
    v: CacheType = Field(default="f16", description="Values; quantised ones need flash attention.")


class Limits(Part):
    """What the gate lets through to each server of the model."""

    rpm: int | None = Field(default=None, ge=1, description="Requests a minute.")
    tpm: int | None = Field(default=None, ge=1, description="Tokens a minute.")
    parallel: int | None = Field(default=None, ge=1, description="Requests at a time.")


class Serving(Part):
    """How patient the gpu-servers of the model are; see docs/gpu-server/settings.md."""

    max_queue: int = Field(default=32, ge=0, description="Requests that may wait for a slot.")
    queue_timeout_s: float = Field(default=60, gt=0, description="Longest wait for a slot.")
    first_byte_timeout_s: float = Field(default=600, gt=0, description="Longest wait for an answer to begin.")
    stall_timeout_s: float = Field(default=60, gt=0, description="Work without progress for so long: restart.")
    drain_timeout_s: float = Field(default=30, ge=0, description="Time that work in flight gets at a stop.")
    max_body_mib: float = Field(default=32, gt=0, description="Largest request body.")
    allow_remote_media: bool = Field(default=False, description="Let requests make it fetch image or audio URLs.")


class Objectives(Part):
    """What load tests and the capacity search hold the model to. Alerts have their own: docs/monitoring.md."""

    ttft_p95_s: float = Field(
        default=5.0, gt=0, description="95 % of answers begin within; of vectors and ranks: are there within."
    )
    duration_p95_s: float | None = Field(default=None, gt=0, description="95 % of answers are whole within.")
    error_share: float = Field(default=0.01, ge=0, le=1, description="Most requests that may fail or be refused.")


class Price(Part):
    """Notional US dollars a million tokens, so that budgets of keys mean something on one's own hardware."""

    prompt: float = Field(default=1.0, ge=0, description="A million prompt tokens.")
    answer: float = Field(default=1.0, ge=0, description="A million tokens of answers.")


class Model(Part):
    """One model. Its name is the one that clients ask for; `aliases` are further ones."""

    mode: ModelMode = Field(default="chat", description="What it serves; decides which routes answer.")
    source: Source | None = Field(default=None, description="Where its GGUF comes from; an image model has none.")
    quantisation: Plain = Field(default="", description="For people.", examples=["Q5_K_M"])
    projector: PathSource | None = Field(default=None, description="GGUF of its image or audio projector.")
    aliases: tuple[ModelName, ...] = Field(default=(), description="Further names that clients may ask for.")
    context: int = Field(default=4096, ge=_LEAST_CONTEXT, description="Tokens of one slot, prompt and answer together.")
    slots: int = Field(default=1, ge=1, le=256, description="Requests that one server answers at the same time.")
    kv_cache: KvCache = Field(default=KvCache(), description="Types of the KV cache.")
    gpu_layers: int | Literal["all"] = Field(default="all", description="Layers on the GPU, the output counts as one.")
    batch: int = Field(default=512, ge=1, description="Prompt tokens handled in one go.")
    ubatch: int = Field(default=512, ge=1, description="Tokens in one pass on the device; at most `batch`.")
    threads: int | None = Field(default=None, ge=1, le=1024, description="CPU threads a server; unset: a fair share.")
    cache_reuse: int = Field(default=256, ge=0, description="Shortest run of tokens to reuse after a shift.")
    cache_ram_mib: int | None = Field(
        default=None, ge=0, description="Host memory for prompts of idle chats; unset: what the container leaves."
    )
    memory_mib: int | None = Field(default=None, ge=64, description="Limit of a server's container.")
    extra_args: tuple[Plain, ...] = Field(default=(), description="Further flags of llama-server, one a line.")
    image: Image | None = Field(default=None, description="Container image of an image model's server (LocalAI).")
    limits: Limits | None = Field(default=None, description="What the gate lets through to each server.")
    serving: Serving = Field(default=Serving(), description="How patient its servers are.")
    objectives: Objectives = Field(default=Objectives(), description="What load tests hold it to.")
    price: Price = Field(default=Price(), description="What its tokens cost a key's budget.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.mode == "image":
            if self.image is None:
                raise ValueError("mode: image needs `image`, the container image of its server")
        elif self.source is None:
            raise ValueError("says not where its GGUF comes from; add source: {package|url|hub|path: ...}")
        if self.ubatch > self.batch:
            raise ValueError(f"ubatch {self.ubatch} is over batch {self.batch}; lower ubatch or raise batch")
        if self.mode == "transcription" and self.projector is None:
            raise ValueError("mode: transcription needs `projector`, the model's audio projector")
        if self.projector is not None and self.mode in ("embedding", "rerank", "image"):
            raise ValueError(f"projector has no use with mode: {self.mode}; take it out")
        return self

    @property
    def total_context(self) -> int:
        """Tokens of all slots together: llama-server's N_CTX."""
        return self.context * self.slots
