"""Sentence embeddings of a BERT encoder in plain numpy, as the paper has it: what a served model is compared to.

Shares no code with the converter: it reads the weights itself and takes tokens from the `tokenizers` library.
Source: Devlin et al. 2018 (arXiv 1810.04805), mean pooling as in Reimers and Gurevych 2019 (arXiv 1908.10084).
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Floats = NDArray[np.float64]
erf = np.vectorize(math.erf)


class BertReference:
    """Embeds one text at a time, in float64."""

    def __init__(self, directory: Path) -> None:
        config = json.loads((directory / "config.json").read_text())
        self._heads: int = config["num_attention_heads"]
        self._layers: int = config["num_hidden_layers"]
        self._epsilon: float = config["layer_norm_eps"]
        self._weights = read_float32_tensors(directory / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(config["max_position_embeddings"])

    def embed(self, text: str) -> Floats:
        """Return the unit vector of `text`: the mean of its tokens' last hidden states."""
        hidden = self._embeddings(self._tokenizer.encode(text).ids)
        for layer in range(self._layers):
            prefix = f"encoder.layer.{layer}"
            attended = self._linear(
                self._attention(hidden, f"{prefix}.attention.self"), f"{prefix}.attention.output.dense"
            )
            hidden = self._norm(hidden + attended, f"{prefix}.attention.output.LayerNorm")
            widened = gelu(self._linear(hidden, f"{prefix}.intermediate.dense"))
            hidden = self._norm(hidden + self._linear(widened, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm")
        mean: Floats = hidden.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _embeddings(self, ids: list[int]) -> Floats:
        tables = [self._weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")]
        word, position, token_type = tables
        return self._norm(word[ids] + position[: len(ids)] + token_type[0], "embeddings.LayerNorm")

    def _attention(self, hidden: Floats, prefix: str) -> Floats:
        tokens, width = hidden.shape
        query, key, value = (
            self._linear(hidden, f"{prefix}.{part}").reshape(tokens, self._heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(width // self._heads)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed: Floats = (weights @ value).transpose(1, 0, 2).reshape(tokens, width)
        return mixed

    def _linear(self, x: Floats, name: str) -> Floats:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled: Floats = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._epsilon)
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def gelu(x: Floats) -> Floats:
    gated: Floats = 0.5 * x * (1 + erf(x / math.sqrt(2)))
    return gated


def read_float32_tensors(path: Path) -> dict[str, Floats]:
    """Return the float32 tensors of a safetensors file that is known to be good."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:start])
    tensors = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32":
            begin, end = entry["data_offsets"]
            flat = np.frombuffer(content[start + begin : start + end], "<f4")
            tensors[name] = flat.reshape(entry["shape"]).astype(np.float64)
    return tensors
