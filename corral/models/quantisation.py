"""The quantisation that a GGUF's header names, read without the rest of the file.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Numbers: `enum llama_ftype` in llama.cpp's llama.h.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from corral.models.records import MAGIC

_KEY = b"general.file_type"
_MOST_KEYS = 256
_MOST_STRINGS = 1_000_000  # a vocabulary has up to 300,000, passed over in some 50 ms
_LONGEST_KEY = 65_535
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

# fmt: off
_NAMES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}
# fmt: on


def quantisation(path: Path) -> str | None:
    """Return a name such as `Q5_K_M`; None if the file does not tell, or is no GGUF.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            number = _file_type(file)
        except struct.error:  # cut short
            return None
    return None if number is None else _NAMES.get(number, f"type {number}")


def _file_type(file: BinaryIO) -> int | None:
    if file.read(len(MAGIC)) != MAGIC:
        return None
    version, _tensors, keys = _unpack(file, "<IQQ")
    if version not in (2, 3):
        return None
    for _ in range(min(keys, _MOST_KEYS)):
        (length,) = _unpack(file, "<Q")
        if length > _LONGEST_KEY:
            return None
        key = file.read(length)
        (kind,) = _unpack(file, "<I")
        if key == _KEY:
            return _unpack(file, "<I")[0] if kind == _UINT32 else None
        if not _skip(file, kind):
            return None
    return None


def _skip(file: BinaryIO, kind: int) -> bool:
    """Pass over a value; False if it is none that the format knows."""
    strings = size = 0
    if kind == _STRING:
        strings = 1
    elif kind == _ARRAY:
        item, count = _unpack(file, "<IQ")
        if item == _STRING:
            strings = count
        else:
            size = _SCALAR_BYTES.get(item, 2**64) * count
    else:
        size = _SCALAR_BYTES.get(kind, 2**64)
    if strings > _MOST_STRINGS or size >= 2**62:  # the latter is beyond what a file can be sought to
        return False
    file.seek(size, 1)
    return all(_skip_string(file) for _ in range(strings))


def _skip_string(file: BinaryIO) -> bool:
    (length,) = _unpack(file, "<Q")
    return length < 2**32 and len(file.read(length)) == length


def _unpack(file: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
