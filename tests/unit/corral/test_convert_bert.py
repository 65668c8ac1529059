"""Converting BERT to GGUF: the right names, values and tokens, the same bytes every time, no bad model let by."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from corral.models.conversion import Precision, convert_bert
from corral.models.errors import FormatError
from support.tiny_bert import (
    CONFIG,
    CONTEXT,
    HIDDEN,
    LAYERS,
    VOCABULARY,
    random_tensors,
    tokenizer_json,
    write_tiny_bert,
)

LAYER_NAMES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
NAMES = {
    "token_embd.weight": "embeddings.word_embeddings.weight",
    "position_embd.weight": "embeddings.position_embeddings.weight",
    "token_types.weight": "embeddings.token_type_embeddings.weight",
    **{f"token_embd_norm.{part}": f"embeddings.LayerNorm.{part}" for part in ("weight", "bias")},
    **{
        f"blk.{layer}.{short}.{part}": f"encoder.layer.{layer}.{long}.{part}"
        for layer in range(LAYERS)
        for long, short in LAYER_NAMES.items()
        for part in ("weight", "bias")
    },
}


def converted(source: Path, target: Path, precision: Precision = "f32") -> gguf.GGUFReader:
    convert_bert(source, target, name="tiny", licence="apache-2.0", precision=precision)
    return gguf.GGUFReader(target)


def values(reader: gguf.GGUFReader) -> dict[str, Any]:
    return {key: field.contents() for key, field in reader.fields.items()}


def test_every_tensor_arrives_under_its_gguf_name_with_its_values(tmp_path: Path) -> None:
    reader = converted(write_tiny_bert(tmp_path / "tiny"), tmp_path / "tiny.gguf")
    tensors = random_tensors()
    assert {tensor.name for tensor in reader.tensors} == set(NAMES)
    for tensor in reader.tensors:
        np.testing.assert_array_equal(tensor.data, tensors[NAMES[tensor.name]])


def test_f16_halves_the_matrices_and_keeps_norms_biases_and_tables(tmp_path: Path) -> None:
    reader = converted(write_tiny_bert(tmp_path / "tiny"), tmp_path / "tiny.gguf", "f16")
    tensors = random_tensors()
    halved = {tensor.name for tensor in reader.tensors if tensor.tensor_type == gguf.GGMLQuantizationType.F16}
    kept = ("norm.weight", "position_embd.weight", "token_types.weight")
    assert halved == {name for name in NAMES if name.endswith(".weight") and not name.endswith(kept)}
    for tensor in reader.tensors:
        original = tensors[NAMES[tensor.name]]
        np.testing.assert_array_equal(tensor.data, original.astype(np.float16) if tensor.name in halved else original)


def test_the_header_holds_the_sizes_pooling_and_licence(tmp_path: Path) -> None:
    header = values(converted(write_tiny_bert(tmp_path / "tiny"), tmp_path / "tiny.gguf"))
    wanted = {
        "general.architecture": "bert",
        "general.name": "tiny",
        "general.license": "apache-2.0",
        "bert.context_length": CONTEXT,
        "bert.embedding_length": HIDDEN,
        "bert.block_count": LAYERS,
        "bert.feed_forward_length": 16,
        "bert.attention.head_count": 2,
        "bert.attention.causal": False,
        "bert.pooling_type": gguf.PoolingType.MEAN,
    }
    assert {key: header[key] for key in wanted} == wanted
    assert header["bert.attention.layer_norm_epsilon"] == pytest.approx(1e-12)


def test_cls_pooling_is_kept(tmp_path: Path) -> None:
    header = values(converted(write_tiny_bert(tmp_path / "tiny", pooling="cls_token"), tmp_path / "tiny.gguf"))
    assert header["bert.pooling_type"] == gguf.PoolingType.CLS


def test_the_vocabulary_marks_word_starts_and_special_tokens(tmp_path: Path) -> None:
    header = values(converted(write_tiny_bert(tmp_path / "tiny"), tmp_path / "tiny.gguf"))
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["\u2581play", "ing", "\u2581cat", "s", "\u2581é", "\u2581京", "\u2581!"]
    assert header["tokenizer.ggml.model"] == "bert"
    assert header["tokenizer.ggml.tokens"] == specials + words
    assert header["tokenizer.ggml.token_type"] == [gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * 7
    ids = {
        role: header[f"tokenizer.ggml.{role}_token_id"] for role in ("padding", "unknown", "cls", "seperator", "mask")
    }
    assert ids == {"padding": 0, "unknown": 1, "cls": 2, "seperator": 3, "mask": 4}
    assert (header["tokenizer.ggml.bos_token_id"], header["tokenizer.ggml.eos_token_id"]) == (2, 3)
    assert header["tokenizer.ggml.add_bos_token"]
    assert header["tokenizer.ggml.add_eos_token"]


def test_the_same_weights_give_the_same_bytes_whatever_their_order_and_prefix(tmp_path: Path) -> None:
    tensors = random_tensors()
    shuffled = {f"bert.{name}": tensors[name] for name in reversed(tensors)}
    for name, source in (("one", tensors), ("two", tensors), ("three", shuffled)):
        converted(write_tiny_bert(tmp_path / name, tensors=source), tmp_path / f"{name}.gguf", "f16")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "three.gguf").read_bytes()


def changed(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> dict[str, NDArray[Any]]:
    tensors = random_tensors()
    return {**tensors, name: change(tensors[name])}


def without(name: str) -> dict[str, NDArray[Any]]:
    return {key: tensor for key, tensor in random_tensors().items() if key != name}


QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (without(QUERY), f"tensor {QUERY} is missing"),
        (changed(QUERY, lambda tensor: tensor[:-1]), f"tensor {QUERY} has shape (7, 8)"),
        (changed(QUERY, lambda tensor: tensor.astype(np.int64)), "holds int64"),
        (changed(QUERY, lambda tensor: tensor * np.float32(np.nan)), "not finite"),
        ({**random_tensors(), "classifier.weight": np.zeros((2, 8), np.float32)}, "classifier.weight is not part"),
        ({}, "is missing"),
    ],
)
def test_weights_that_are_not_this_encoder_are_refused(
    tmp_path: Path, tensors: dict[str, NDArray[Any]], says: str
) -> None:
    source = write_tiny_bert(tmp_path / "tiny", tensors=tensors)
    with pytest.raises(FormatError, match=r"model\.safetensors") as caught:
        convert_bert(source, tmp_path / "tiny.gguf", name="tiny", licence="apache-2.0")
    assert says in str(caught.value)
    assert not (tmp_path / "tiny.gguf").exists()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"num_attention_heads": 3}, "not a multiple of 3 heads"),
        ({"num_attention_heads": 0}, "not a multiple of 0 heads"),
        ({"hidden_size": "wide"}, "not a number"),
        ({"hidden_size": None}, "not a number"),
    ],
)
def test_a_configuration_that_llama_cpp_does_not_compute_is_refused(
    tmp_path: Path, config: dict[str, Any], says: str
) -> None:
    source = write_tiny_bert(tmp_path / "tiny", config=config)
    with pytest.raises(FormatError, match=r"config\.json") as caught:
        convert_bert(source, tmp_path / "tiny.gguf", name="tiny", licence="apache-2.0")
    assert says in str(caught.value)


def test_max_pooling_is_refused(tmp_path: Path) -> None:
    source = write_tiny_bert(tmp_path / "tiny", pooling="max_tokens")
    with pytest.raises(FormatError, match="pooling max_tokens"):
        convert_bert(source, tmp_path / "tiny.gguf", name="tiny", licence="apache-2.0")


def test_a_missing_size_is_named(tmp_path: Path) -> None:
    source = write_tiny_bert(tmp_path / "tiny")
    (source / "config.json").write_text(json.dumps({key: CONFIG[key] for key in CONFIG if key != "vocab_size"}))
    with pytest.raises(FormatError, match="vocab_size"):
        convert_bert(source, tmp_path / "tiny.gguf", name="tiny", licence="apache-2.0")


def tokenizer(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = tokenizer_json(VOCABULARY)
    change(document)
    return document


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (tokenizer(lambda d: d["model"]["vocab"].update(cat=40)), "no token has the id 7 of 12"),
        (tokenizer(lambda d: d["model"]["vocab"].update(cat=8)), "no token has the id 7 of 12"),
        (tokenizer(lambda d: d["model"]["vocab"].pop("cat")), "11 tokens, but the model has embeddings for 12"),
        (tokenizer(lambda d: d["added_tokens"].pop()), "no special token [MASK]"),
        (tokenizer(lambda d: d["model"].update(type="BPE")), "'BPE'"),
        (tokenizer(lambda d: d["model"].update(continuing_subword_prefix="")), "prefix ''"),
        (tokenizer(lambda d: d["normalizer"].update(lowercase=False)), "cased"),
        (tokenizer(lambda d: d["normalizer"].update(strip_accents=False)), "cased"),
        (tokenizer(lambda d: d.update(normalizer=None)), "cased"),
        (tokenizer(lambda d: d.pop("added_tokens")), "not a tokenizer.json"),
        (tokenizer(lambda d: d.update(model=[])), "not a tokenizer.json"),
    ],
)
def test_a_vocabulary_with_holes_or_of_another_kind_is_refused(
    tmp_path: Path, document: dict[str, Any], says: str
) -> None:
    source = write_tiny_bert(tmp_path / "tiny")
    (source / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match=r"tokenizer\.json") as caught:
        convert_bert(source, tmp_path / "tiny.gguf", name="tiny", licence="apache-2.0")
    assert says in str(caught.value)


def test_a_missing_file_is_an_os_error_that_names_it(tmp_path: Path) -> None:
    source = write_tiny_bert(tmp_path / "tiny")
    (source / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        convert_bert(source, tmp_path / "tiny.gguf", name="tiny", licence="apache-2.0")
