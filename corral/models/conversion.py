"""Convert a BERT sentence encoder (safetensors, config.json, tokenizer.json, 1_Pooling) to one GGUF file.

Deterministic: the same input gives the same bytes on every machine (a fixed order of keys and tensors, no dates, IEEE
rounding), so that the result can be pinned by its SHA-256. Needs numpy and gguf only; no code of the model's package
runs.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from numpy.typing import NDArray

from corral.models.bert import IGNORED, PREFIX, BertConfig, TensorRule, read_config, tensor_rules
from corral.models.errors import FormatError
from corral.models.safetensors import read_safetensors
from corral.models.wordpiece import Vocabulary, read_vocabulary

Precision = Literal["f32", "f16"]

_FILE_TYPES = {"f32": gguf.LlamaFileType.ALL_F32, "f16": gguf.LlamaFileType.MOSTLY_F16}
_POOLING_TYPES = {"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS}


def convert_bert(source: Path, target: Path, *, name: str, licence: str, precision: Precision = "f16") -> None:
    """Write the encoder in directory `source` as GGUF to `target`.

    `target` is written in place and may be left half-written on an error: write to a temporary name and rename (see
    `corral.models.files.replacing`). `name` and `licence` (an SPDX id, in small letters) go into the file.

    Raises:
        FormatError: the source is damaged or a model that this converter does not know.
        OSError: a file cannot be read or written.
    """
    config = read_config(source)
    vocabulary = read_vocabulary(source / "tokenizer.json", config.vocabulary)
    weights = source / "model.safetensors"
    tensors = _encoder_tensors(weights, read_safetensors(weights), tensor_rules(config))

    writer = gguf.GGUFWriter(target, "bert")
    try:
        writer.add_name(name)
        writer.add_license(licence)
        writer.add_file_type(_FILE_TYPES[precision])
        _add_config(writer, config)
        _add_vocabulary(writer, vocabulary)
        for rule, tensor in tensors:
            stored = np.float16 if precision == "f16" and rule.halves else np.float32
            writer.add_tensor(rule.target, np.ascontiguousarray(tensor, dtype=stored))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _encoder_tensors(
    path: Path, loaded: Mapping[str, NDArray[Any]], rules: list[TensorRule]
) -> Iterator[tuple[TensorRule, NDArray[Any]]]:
    """Pair each rule with its tensor, once all are known to be there, of the right shape, and finite."""
    named = {name.removeprefix(PREFIX): tensor for name, tensor in loaded.items()}
    unknown = sorted(named.keys() - {rule.source for rule in rules} - IGNORED)
    if unknown:
        raise FormatError(f"{path}: tensor {unknown[0]} is not part of a plain BERT encoder ({len(unknown)} such)")
    for rule in rules:
        tensor = named.get(rule.source)
        if tensor is None:
            raise FormatError(f"{path}: tensor {rule.source} is missing")
        if tensor.shape != rule.shape:
            raise FormatError(
                f"{path}: tensor {rule.source} has shape {tensor.shape}, config.json asks for {rule.shape}"
            )
        if tensor.dtype.kind != "f":
            raise FormatError(f"{path}: tensor {rule.source} holds {tensor.dtype}, not floating-point numbers")
        if not np.isfinite(tensor).all():
            raise FormatError(f"{path}: tensor {rule.source} holds numbers that are not finite")
    return ((rule, named[rule.source]) for rule in rules)


def _add_config(writer: gguf.GGUFWriter, config: BertConfig) -> None:
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.hidden)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_pooling_type(_POOLING_TYPES[config.pooling])
    writer.add_token_type_count(config.token_types)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.phantom_spaced())
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL if token in vocabulary.special else gguf.TokenType.NORMAL
            for token in vocabulary.tokens
        ]
    )
    for role, token_id in vocabulary.ids().items():
        writer.add_uint32(f"tokenizer.ggml.{role}_token_id", token_id)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
