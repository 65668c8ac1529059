"""Writes GGUF files of any shape: a real header, and as many zero bytes as its tensors need, in a sparse file.

llama-server's memory fit reads only the header, so that an 8B model costs a few MiB of disk and no download.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corral.gguf.tensor_types import BY_NAME, IDS, tensor_bytes

Tensor = tuple[str, tuple[int, ...], str]  # name, shape (row length first), type
ALIGNMENT = 32


@dataclass(frozen=True)
class Model:
    """What goes into a file."""

    metadata: Mapping[str, object]
    tensors: Sequence[Tensor]
    tokens: Sequence[str] = field(default=())
    merges: Sequence[str] = field(default=())


def write(path: Path, model: Model, *, version: int = 3) -> Path:
    """Write the model and return its path."""
    header = header_bytes(model, version=version)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + _data_bytes(model.tensors))
    return path


def header_bytes(model: Model, *, version: int = 3) -> bytes:
    """The file up to where its tensors begin."""
    pairs = [_pair(key, value) for key, value in model.metadata.items()]
    if model.tokens:
        pairs += _vocabulary(model)
    out = [b"GGUF", struct.pack("<IQQ", version, len(model.tensors), len(pairs)), *pairs]
    offset = 0
    for name, shape, kind in model.tensors:
        out.append(_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, IDS[kind], offset))
        offset += _padded(tensor_bytes(BY_NAME[kind], shape))
    whole = b"".join(out)
    return whole.ljust(_padded(len(whole)), b"\0")


class Sparse:
    """The first bytes of a file, and zeros up to its size."""

    def __init__(self, start: bytes, size: int) -> None:
        self._start = start
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        first, last, _ = part.indices(self._size)
        return self._start[first:last].ljust(last - first, b"\0")


def _vocabulary(model: Model) -> Iterable[bytes]:
    yield _pair("tokenizer.ggml.model", "gpt2")
    yield _pair("tokenizer.ggml.pre", "default")
    yield _key("tokenizer.ggml.tokens") + _strings(model.tokens)
    yield _key("tokenizer.ggml.token_type") + _array(5, "i", [1] * len(model.tokens))
    yield _key("tokenizer.ggml.merges") + _strings(model.merges or [f"{model.tokens[0]} {model.tokens[1]}"])
    yield _pair("tokenizer.ggml.eos_token_id", 0)


def _pair(key: str, value: object) -> bytes:
    return _key(key) + _value(value)


def _key(key: str) -> bytes:
    return _string(key)


def _value(value: object) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, list) and isinstance(value[0], bool):
        return _array(7, "?", value)
    assert isinstance(value, list)
    return _array(5, "i", value)


def _array(kind: int, layout: str, items: Sequence[object]) -> bytes:
    return struct.pack(f"<IIQ{len(items)}{layout}", 9, kind, len(items), *items)


def _strings(items: Sequence[str]) -> bytes:
    return struct.pack("<IIQ", 9, 8, len(items)) + b"".join(_string(item) for item in items)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _data_bytes(tensors: Sequence[Tensor]) -> int:
    return sum(_padded(tensor_bytes(BY_NAME[kind], shape)) for _, shape, kind in tensors)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
