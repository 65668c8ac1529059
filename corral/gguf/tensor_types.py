"""ggml's tensor types: elements and bytes of a block, so that any tensor's size follows from its shape.

Source: `ggml_type` in ggml/include/ggml.h and the `block_*` structures in ggml/src/ggml-common.h of llama.cpp b11434.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class TensorType:
    """One type: `block` consecutive elements of a row take `block_bytes`."""

    name: str
    block: int
    block_bytes: int

    @property
    def quantised(self) -> bool:
        """Whether elements share a block (and so a scale)."""
        return self.block > 1

    def size(self, elements: int) -> int:
        """Return the bytes of `elements`, which fill whole blocks."""
        return elements // self.block * self.block_bytes


def tensor_bytes(kind: TensorType, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor; `shape` starts with the length of a row, as in GGUF."""
    return kind.size(prod(shape))


_LAYOUT: tuple[tuple[int, str, int, int], ...] = (
    (0, "f32", 1, 4), (1, "f16", 1, 2), (2, "q4_0", 32, 18), (3, "q4_1", 32, 20), (6, "q5_0", 32, 22),
    (7, "q5_1", 32, 24), (8, "q8_0", 32, 34), (9, "q8_1", 32, 36), (10, "q2_k", 256, 84), (11, "q3_k", 256, 110),
    (12, "q4_k", 256, 144), (13, "q5_k", 256, 176), (14, "q6_k", 256, 210), (15, "q8_k", 256, 292),
    (16, "iq2_xxs", 256, 66), (17, "iq2_xs", 256, 74), (18, "iq3_xxs", 256, 98), (19, "iq1_s", 256, 50),
    (20, "iq4_nl", 32, 18), (21, "iq3_s", 256, 110), (22, "iq2_s", 256, 82), (23, "iq4_xs", 256, 136),
    (24, "i8", 1, 1), (25, "i16", 1, 2), (26, "i32", 1, 4), (27, "i64", 1, 8), (28, "f64", 1, 8),
    (29, "iq1_m", 256, 56), (30, "bf16", 1, 2), (34, "tq1_0", 256, 54), (35, "tq2_0", 256, 66),
    (39, "mxfp4", 32, 17), (40, "nvfp4", 64, 36), (41, "q1_0", 128, 18), (42, "q2_0", 64, 18),
)  # fmt: skip

BY_ID: Mapping[int, TensorType] = MappingProxyType(
    {number: TensorType(name, block, block_bytes) for number, name, block, block_bytes in _LAYOUT}
)
BY_NAME: Mapping[str, TensorType] = MappingProxyType({kind.name: kind for kind in BY_ID.values()})
IDS: Mapping[str, int] = MappingProxyType({name: number for number, name, _, _ in _LAYOUT})
