"""A BERT encoder of a few hundred random weights, in the files that a sentence-transformers package has."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIDDEN, WIDE, LAYERS, HEADS, CONTEXT = 8, 16, 2, 2, 16
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "cat", "##s", "é", "京", "!"]

CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "vocab_size": len(VOCABULARY),
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": WIDE,
    "max_position_embeddings": CONTEXT,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


def tokenizer_json(tokens: list[str]) -> dict[str, Any]:
    return {
        "added_tokens": [{"content": token, "special": True} for token in tokens if token.startswith("[")],
        "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
        "model": {
            "type": "WordPiece",
            "continuing_subword_prefix": "##",
            "vocab": {token: number for number, token in enumerate(tokens)},
        },
    }


def random_tensors(seed: int = 0) -> dict[str, NDArray[Any]]:
    """Tensors by Hugging Face's names, written out here rather than taken from the converter's own list."""
    generator = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), HIDDEN),
        "embeddings.position_embeddings.weight": (CONTEXT, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
        "pooler.dense.weight": (HIDDEN, HIDDEN),
        "pooler.dense.bias": (HIDDEN,),
    }
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", WIDE, HIDDEN),
            ("output.dense", HIDDEN, WIDE),
        ):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (rows, columns)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (rows,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (HIDDEN,)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (HIDDEN,)
    tensors: dict[str, NDArray[Any]] = {
        name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    tensors["embeddings.position_ids"] = np.arange(CONTEXT, dtype=np.int64)[None]
    return tensors


def safetensors_bytes(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The safetensors file of these tensors, in this order."""
    dtypes = {"float32": "F32", "float16": "F16", "int64": "I64", "uint16": "BF16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        raw = tensor.tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtypes[tensor.dtype.name], "shape": list(tensor.shape), "data_offsets": offsets}
        data += raw
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


def write_tiny_bert(
    directory: Path,
    *,
    tensors: Mapping[str, NDArray[Any]] | None = None,
    tokens: list[str] | None = None,
    config: Mapping[str, Any] | None = None,
    pooling: str = "mean_tokens",
) -> Path:
    """Write the four files into `directory` (made if need be) and return it."""
    (directory / "1_Pooling").mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json(tokens or VOCABULARY)))
    (directory / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": HIDDEN, f"pooling_mode_{pooling}": True, "pooling_mode_sqrt": False})
    )
    (directory / "model.safetensors").write_bytes(safetensors_bytes(random_tensors() if tensors is None else tensors))
    return directory
