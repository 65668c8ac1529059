"""Read safetensors files: an 8-byte length, a JSON header of that length, then the tensors' bytes.

Format: https://github.com/huggingface/safetensors#format. The file is untrusted input: everything the header claims is
checked against the file's size before a byte of a tensor is looked at.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.models.errors import FormatError

MAX_HEADER_BYTES = 100_000_000  # the reference implementation's limit
LENGTH_BYTES = 8
_DTYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "u1",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of the header; `begin` and `end` count bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """Map the file and return its tensors by name, in the order of the header; bfloat16 comes back as float32.

    The arrays are read-only views of the mapped file (but for bfloat16): no copy is made.

    Raises:
        FormatError: the file is truncated, its header is no valid header, or a dtype is unknown.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    if size < LENGTH_BYTES:
        raise FormatError(f"{path} is no safetensors file: {size} bytes are too few for a header")
    content = np.memmap(path, dtype=np.uint8, mode="r")
    header_bytes = int.from_bytes(content[:LENGTH_BYTES].tobytes(), "little")
    if header_bytes > min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
        raise FormatError(
            f"{path} is truncated or no safetensors file: header of {header_bytes} bytes in a file of {size}"
        )
    data_start = LENGTH_BYTES + header_bytes
    entries = _parse_header(path, content[LENGTH_BYTES:data_start].tobytes())
    _check_layout(path, entries, size - data_start)
    data = content[data_start:]
    return {entry.name: _view(data, entry) for entry in entries}


def _parse_header(path: Path, raw: bytes) -> list[_Entry]:
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: the safetensors header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise FormatError(f"{path}: the safetensors header is not a JSON object")
    header.pop("__metadata__", None)
    return [_parse_entry(path, name, fields) for name, fields in header.items()]


def _parse_entry(path: Path, name: str, fields: Any) -> _Entry:
    try:
        dtype, shape, (begin, end) = fields["dtype"], fields["shape"], fields["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"{path}: tensor {name} lacks dtype, shape or data_offsets in the header") from None
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FormatError(f"{path}: tensor {name} has dtype {dtype!r}; known are {', '.join(_DTYPES)}")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise FormatError(f"{path}: tensor {name} has a shape or data_offsets that are not whole numbers from 0")
    entry = _Entry(name, dtype, tuple(shape), begin, end)
    expected = prod(entry.shape) * np.dtype(_DTYPES[dtype]).itemsize
    if end - begin != expected:
        raise FormatError(f"{path}: tensor {name} of shape {list(shape)} needs {expected} bytes but has {end - begin}")
    return entry


def _check_layout(path: Path, entries: list[_Entry], data_bytes: int) -> None:
    """The tensors must cover the data without gap or overlap: what the format demands, and what catches a cut file."""
    ordered = sorted(entries, key=lambda entry: (entry.begin, entry.end))
    for before, after in pairwise(ordered):
        if after.begin != before.end:
            raise FormatError(f"{path}: tensor {after.name} starts at byte {after.begin}, not at {before.end}")
    first, last = (ordered[0].begin, ordered[-1].end) if ordered else (0, 0)
    if first != 0 or last != data_bytes:
        raise FormatError(
            f"{path}: tensors cover bytes {first} to {last} of {data_bytes}: the file is cut or has a tail"
        )


def _view(data: NDArray[np.uint8], entry: _Entry) -> NDArray[Any]:
    flat = data[entry.begin : entry.end].view(_DTYPES[entry.dtype])
    if entry.dtype == "BF16":  # the upper half of a float32
        flat = (flat.astype("<u4") << 16).view("<f4")
    return flat.reshape(entry.shape)
