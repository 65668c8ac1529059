"""Headers of models: small ones of several architectures, and the two that the reference box serves, at full size."""

from collections.abc import Iterator
from dataclasses import dataclass

from support.gguf_files import Model, Tensor


@dataclass(frozen=True)
class Sizes:
    """What a small model is made of. `type` is that of its matrices; `head` the length of a head, 0: as it divides."""

    architecture: str = "llama"
    layers: int = 4
    embedding: int = 512
    feed_forward: int = 1536
    heads: int = 8
    kv_heads: int = 2
    head: int = 0
    vocabulary: int = 32_000
    context: int = 32_768
    type: str = "q8_0"
    tied: bool = False
    window: int = 0
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0

    @property
    def head_length(self) -> int:
        return self.head or self.embedding // self.heads


def tokens(count: int) -> list[str]:
    return ["<unk>", "<s>", "</s>", "<|endoftext|>"] + [f"t{number}" for number in range(4, count)]


def small(sizes: Sizes) -> Model:
    """A model of these sizes as its architecture lays out tensors."""
    encoder = sizes.architecture in ("bert", "nomic-bert")
    layers = _encoder_tensors(sizes) if encoder else _decoder_tensors(sizes)
    return Model(_metadata(sizes, encoder), list(layers), tokens(sizes.vocabulary))


def _metadata(sizes: Sizes, encoder: bool) -> dict[str, object]:
    name = sizes.architecture
    metadata: dict[str, object] = {
        "general.architecture": name,
        "general.name": f"small {name}",
        f"{name}.block_count": sizes.layers,
        f"{name}.context_length": sizes.context,
        f"{name}.embedding_length": sizes.embedding,
        f"{name}.feed_forward_length": sizes.feed_forward,
        f"{name}.attention.head_count": sizes.heads,
        f"{name}.attention.head_count_kv": sizes.kv_heads,
        f"{name}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{name}.rope.dimension_count": sizes.head_length,
    }
    if encoder:
        metadata |= {f"{name}.attention.layer_norm_epsilon": 1e-12, f"{name}.attention.causal": False}
        metadata |= {f"{name}.pooling_type": 1, "tokenizer.ggml.token_type_count": 2}
    if sizes.head:
        metadata |= {f"{name}.attention.key_length": sizes.head, f"{name}.attention.value_length": sizes.head}
    if sizes.window:
        metadata[f"{name}.attention.sliding_window"] = sizes.window
    if sizes.experts:
        metadata |= {f"{name}.expert_count": sizes.experts, f"{name}.expert_used_count": sizes.experts_used}
        metadata[f"{name}.expert_feed_forward_length"] = sizes.expert_feed_forward
    return metadata


def _decoder_tensors(sizes: Sizes) -> Iterator[Tensor]:
    width, kind = sizes.embedding, sizes.type
    yield "token_embd.weight", (width, sizes.vocabulary), kind
    yield "output_norm.weight", (width,), "f32"
    if not sizes.tied:
        yield "output.weight", (width, sizes.vocabulary), kind
    for index in range(sizes.layers):
        prefix = f"blk.{index}."
        yield f"{prefix}attn_norm.weight", (width,), "f32"
        yield from _attention(sizes, prefix)
        yield f"{prefix}ffn_norm.weight", (width,), "f32"
        yield from _experts(sizes, prefix) if sizes.experts else _feed_forward(sizes, prefix)
        if sizes.architecture == "gemma3":
            yield f"{prefix}post_attention_norm.weight", (width,), "f32"
            yield f"{prefix}post_ffw_norm.weight", (width,), "f32"


def _attention(sizes: Sizes, prefix: str) -> Iterator[Tensor]:
    width, kind, head = sizes.embedding, sizes.type, sizes.head_length
    query, cached = sizes.heads * head, sizes.kv_heads * head
    if sizes.architecture == "phi3":
        yield f"{prefix}attn_qkv.weight", (width, query + 2 * cached), kind
    else:
        for letter, rows in (("q", query), ("k", cached), ("v", cached)):
            yield f"{prefix}attn_{letter}.weight", (width, rows), kind
            if sizes.architecture == "qwen2":
                yield f"{prefix}attn_{letter}.bias", (rows,), "f32"
    if sizes.architecture in ("qwen3", "qwen3moe", "gemma3"):
        yield f"{prefix}attn_q_norm.weight", (head,), "f32"
        yield f"{prefix}attn_k_norm.weight", (head,), "f32"
    yield f"{prefix}attn_output.weight", (query, width), kind


def _feed_forward(sizes: Sizes, prefix: str) -> Iterator[Tensor]:
    width, inner, kind = sizes.embedding, sizes.feed_forward, sizes.type
    if sizes.architecture == "phi3":
        yield f"{prefix}ffn_up.weight", (width, 2 * inner), kind
    else:
        yield f"{prefix}ffn_gate.weight", (width, inner), kind
        yield f"{prefix}ffn_up.weight", (width, inner), kind
    yield f"{prefix}ffn_down.weight", (inner, width), kind


def _experts(sizes: Sizes, prefix: str) -> Iterator[Tensor]:
    width, inner, kind = sizes.embedding, sizes.expert_feed_forward, sizes.type
    yield f"{prefix}ffn_gate_inp.weight", (width, sizes.experts), "f32"
    yield f"{prefix}ffn_gate_exps.weight", (width, inner, sizes.experts), kind
    yield f"{prefix}ffn_up_exps.weight", (width, inner, sizes.experts), kind
    yield f"{prefix}ffn_down_exps.weight", (inner, width, sizes.experts), kind


def _encoder_tensors(sizes: Sizes) -> Iterator[Tensor]:
    width, inner, kind = sizes.embedding, sizes.feed_forward, sizes.type
    nomic = sizes.architecture == "nomic-bert"
    yield "token_embd.weight", (width, sizes.vocabulary), kind
    yield "token_embd_norm.weight", (width,), "f32"
    yield "token_embd_norm.bias", (width,), "f32"
    yield "token_types.weight", (width, 2), "f32"
    if not nomic:
        yield "position_embd.weight", (width, sizes.context), "f32"
    for index in range(sizes.layers):
        prefix = f"blk.{index}."
        if nomic:
            yield f"{prefix}attn_qkv.weight", (width, 3 * width), kind
            yield f"{prefix}ffn_gate.weight", (width, inner), kind
        else:
            for letter in "qkv":
                yield f"{prefix}attn_{letter}.weight", (width, width), kind
                yield f"{prefix}attn_{letter}.bias", (width,), "f32"
        matrices = (("attn_output", (width, width)), ("ffn_up", (width, inner)), ("ffn_down", (inner, width)))
        for name, shape in matrices:
            yield f"{prefix}{name}.weight", shape, kind
            if not nomic:
                yield f"{prefix}{name}.bias", (shape[1],), "f32"
        for name in ("attn_output_norm", "layer_output_norm"):
            yield f"{prefix}{name}.weight", (width,), "f32"
            yield f"{prefix}{name}.bias", (width,), "f32"


def mamba() -> Model:
    """A small state-space model: a state for each slot, no attention."""
    sizes = Sizes("mamba", heads=0, head=64, tied=True)
    width, inner, state, rank = sizes.embedding, 1024, 16, 32
    tensors: list[Tensor] = [
        ("token_embd.weight", (width, sizes.vocabulary), "q8_0"),
        ("output_norm.weight", (width,), "f32"),
    ]
    for index in range(sizes.layers):
        prefix = f"blk.{index}."
        tensors += [
            (f"{prefix}attn_norm.weight", (width,), "f32"),
            (f"{prefix}ssm_in.weight", (width, 2 * inner), "q8_0"),
            (f"{prefix}ssm_conv1d.weight", (4, inner), "f32"),
            (f"{prefix}ssm_conv1d.bias", (inner,), "f32"),
            (f"{prefix}ssm_x.weight", (inner, rank + 2 * state), "q8_0"),
            (f"{prefix}ssm_dt.weight", (rank, inner), "f32"),
            (f"{prefix}ssm_dt.bias", (inner,), "f32"),
            (f"{prefix}ssm_a", (state, inner), "f32"),
            (f"{prefix}ssm_d", (inner,), "f32"),
            (f"{prefix}ssm_out.weight", (inner, width), "q8_0"),
        ]
    metadata = _metadata(sizes, encoder=False) | {
        "mamba.ssm.conv_kernel": 4, "mamba.ssm.inner_size": inner, "mamba.ssm.state_size": state,
        "mamba.ssm.time_step_rank": rank,
    }  # fmt: skip
    return Model(metadata, tensors, tokens(sizes.vocabulary))


def deepseek2() -> Model:
    """A small model with latent attention: one compressed row a token in its cache, no values; and shared experts."""
    sizes = Sizes("deepseek2", kv_heads=1, experts=8, experts_used=2, expert_feed_forward=256)
    width, heads, rank, turned, plain = sizes.embedding, sizes.heads, 256, 64, 128
    matrices: dict[str, tuple[int, ...]] = {
        "attn_q_a": (width, 384), "attn_q_b": (384, heads * (plain + turned)), "attn_kv_a_mqa": (width, rank + turned),
        "attn_k_b": (plain, rank, heads), "attn_v_b": (rank, plain, heads), "attn_output": (heads * plain, width),
    }  # fmt: skip
    shared: dict[str, tuple[int, ...]] = {
        "ffn_gate_shexp": (width, 256), "ffn_up_shexp": (width, 256), "ffn_down_shexp": (256, width),
    }  # fmt: skip
    norms = {"attn_norm": width, "attn_q_a_norm": 384, "attn_kv_a_norm": rank, "ffn_norm": width}
    tensors: list[Tensor] = [
        ("token_embd.weight", (width, sizes.vocabulary), "q8_0"),
        ("output_norm.weight", (width,), "f32"),
        ("output.weight", (width, sizes.vocabulary), "q8_0"),
    ]
    for index in range(sizes.layers):
        prefix = f"blk.{index}."
        tensors += [(f"{prefix}{name}.weight", (length,), "f32") for name, length in norms.items()]
        tensors += [(f"{prefix}{name}.weight", shape, "q8_0") for name, shape in matrices.items()]
        if index == 0:
            tensors += _feed_forward(sizes, prefix)
            continue
        tensors += _experts(sizes, prefix)
        tensors += [(f"{prefix}{name}.weight", shape, "q8_0") for name, shape in shared.items()]
    metadata = _metadata(sizes, encoder=False) | {
        f"deepseek2.{key}": value
        for key, value in {
            "attention.q_lora_rank": 384, "attention.kv_lora_rank": rank, "attention.key_length": rank + turned,
            "attention.value_length": rank, "attention.key_length_mla": plain + turned,
            "attention.value_length_mla": plain, "rope.dimension_count": turned, "expert_shared_count": 1,
            "leading_dense_block_count": 1, "expert_weights_scale": 1.0,
        }.items()
    }  # fmt: skip
    return Model(metadata, tensors, tokens(sizes.vocabulary))


LLAMA_LAYERS = 32


def llama_31_8b_q5_k_m() -> Model:
    """Llama-3.1-8B-Instruct, each tensor with the type that `llama-quantize ... Q5_K_M` gives it: 5.73 GB.

    Source: src/llama-quant.cpp: output in q6_k, `use_more_bits` for attn_v and ffn_down.
    """
    width, cached, inner, vocabulary = 4096, 1024, 14_336, 128_256
    sizes = Sizes(
        layers=LLAMA_LAYERS, embedding=width, feed_forward=inner, heads=32, kv_heads=8, vocabulary=vocabulary,
        context=131_072,
    )  # fmt: skip
    tensors: list[Tensor] = [
        ("token_embd.weight", (width, vocabulary), "q5_k"),
        ("output_norm.weight", (width,), "f32"),
        ("output.weight", (width, vocabulary), "q6_k"),
        ("rope_freqs.weight", (64,), "f32"),
    ]
    for index in range(LLAMA_LAYERS):
        better = "q6_k" if _use_more_bits(index, LLAMA_LAYERS) else "q5_k"
        prefix = f"blk.{index}."
        tensors += [
            (f"{prefix}attn_norm.weight", (width,), "f32"),
            (f"{prefix}attn_q.weight", (width, width), "q5_k"),
            (f"{prefix}attn_k.weight", (width, cached), "q5_k"),
            (f"{prefix}attn_v.weight", (width, cached), better),
            (f"{prefix}attn_output.weight", (width, width), "q5_k"),
            (f"{prefix}ffn_norm.weight", (width,), "f32"),
            (f"{prefix}ffn_gate.weight", (width, inner), "q5_k"),
            (f"{prefix}ffn_up.weight", (width, inner), "q5_k"),
            (f"{prefix}ffn_down.weight", (inner, width), better),
        ]
    return Model(_metadata(sizes, encoder=False), tensors, tokens(vocabulary))


def _use_more_bits(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def nomic_embed_v15_q8_0() -> Model:
    """nomic-embed-text-v1.5 in Q8_0: 146 MB."""
    return small(
        Sizes(
            "nomic-bert", layers=12, embedding=768, feed_forward=3072, heads=12, kv_heads=12, vocabulary=30_522,
            context=2048,
        )
    )  # fmt: skip
