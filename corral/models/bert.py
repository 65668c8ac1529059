"""What a BERT encoder is: its configuration, and each of its tensors with shape and name in GGUF.

Names on the left are those of Hugging Face's `BertModel`, on the right those of llama.cpp's `bert` architecture
(gguf-py, constants.py). The list is complete: a tensor that is missing, has another shape or is not on it is an error,
so that no weight is ever dropped in silence.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from corral.models.errors import FormatError

PREFIX = "bert."  # of the names in checkpoints saved from a model with a head
# In checkpoints but not part of the encoder: positions are implied, the pooler only serves classification heads.
IGNORED = frozenset({"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"})

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True, slots=True)
class BertConfig:
    """Sizes of a BERT encoder. `context` is in tokens; `hidden` is the dimension of an embedding."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    context: int
    token_types: int
    layer_norm_eps: float
    pooling: Pooling


@dataclass(frozen=True, slots=True)
class TensorRule:
    """One tensor: its name in safetensors and in GGUF, its shape (rows first) and whether f16 may store it."""

    source: str
    target: str
    shape: tuple[int, ...]
    halves: bool


def read_config(directory: Path) -> BertConfig:
    """Read `config.json` and `1_Pooling/config.json` of a sentence-transformers directory.

    Raises:
        FormatError: not BERT, or a variant that llama.cpp's `bert` does not compute (other activation or positions).
        OSError: a file cannot be read.
    """
    path = directory / "config.json"
    fields = _read_object(path)
    for key, wanted in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if fields.get(key, wanted) != wanted:
            raise FormatError(f"{path}: {key} is {fields[key]!r}; the converter only knows {wanted!r}")
    try:
        config = BertConfig(
            vocabulary=int(fields["vocab_size"]),
            hidden=int(fields["hidden_size"]),
            layers=int(fields["num_hidden_layers"]),
            heads=int(fields["num_attention_heads"]),
            feed_forward=int(fields["intermediate_size"]),
            context=int(fields["max_position_embeddings"]),
            token_types=int(fields["type_vocab_size"]),
            layer_norm_eps=float(fields["layer_norm_eps"]),
            pooling=_read_pooling(directory / "1_Pooling" / "config.json"),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: missing or not a number: {error}") from None
    if config.heads < 1 or config.hidden % config.heads:
        raise FormatError(f"{path}: hidden_size {config.hidden} is not a multiple of {config.heads} heads")
    return config


def tensor_rules(config: BertConfig) -> list[TensorRule]:
    """Return every tensor of the encoder, in the order in which GGUF stores them.

    Norms, biases and the small lookup tables stay float32: llama.cpp adds them to float32 activations.
    """
    hidden, wide = config.hidden, config.feed_forward
    rules = [
        TensorRule("embeddings.word_embeddings.weight", "token_embd.weight", (config.vocabulary, hidden), halves=True),
        TensorRule(
            "embeddings.position_embeddings.weight", "position_embd.weight", (config.context, hidden), halves=False
        ),
        TensorRule(
            "embeddings.token_type_embeddings.weight", "token_types.weight", (config.token_types, hidden), halves=False
        ),
        *_norm("embeddings.LayerNorm", "token_embd_norm", hidden),
    ]
    for layer in range(config.layers):
        source, target = f"encoder.layer.{layer}", f"blk.{layer}"
        for part in ("query", "key", "value"):
            rules += _linear(f"{source}.attention.self.{part}", f"{target}.attn_{part[0]}", hidden, hidden)
        rules += _linear(f"{source}.attention.output.dense", f"{target}.attn_output", hidden, hidden)
        rules += _norm(f"{source}.attention.output.LayerNorm", f"{target}.attn_output_norm", hidden)
        rules += _linear(f"{source}.intermediate.dense", f"{target}.ffn_up", wide, hidden)
        rules += _linear(f"{source}.output.dense", f"{target}.ffn_down", hidden, wide)
        rules += _norm(f"{source}.output.LayerNorm", f"{target}.layer_output_norm", hidden)
    return rules


def _linear(source: str, target: str, rows: int, columns: int) -> list[TensorRule]:
    return [
        TensorRule(f"{source}.weight", f"{target}.weight", (rows, columns), halves=True),
        TensorRule(f"{source}.bias", f"{target}.bias", (rows,), halves=False),
    ]


def _norm(source: str, target: str, size: int) -> list[TensorRule]:
    return [TensorRule(f"{source}.{part}", f"{target}.{part}", (size,), halves=False) for part in ("weight", "bias")]


def _read_pooling(path: Path) -> Pooling:
    modes = {
        key.removeprefix("pooling_mode_")
        for key, on in _read_object(path).items()
        if key.startswith("pooling_mode_") and on
    }
    if modes == {"mean_tokens"}:
        return "mean"
    if modes == {"cls_token"}:
        return "cls"
    raise FormatError(
        f"{path}: pooling {', '.join(sorted(modes)) or 'none'}; the converter knows mean_tokens or cls_token"
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise FormatError(f"{path} is not a JSON object")
    return fields
