"""GGUF's bytes into a `Part`. Strings of vocabularies are stepped over, not made: a header takes some 10 to 60 ms.

The bytes are untrusted: counts are checked against what is there before anything is made of them.
"""

import mmap
import struct
from collections.abc import Callable
from math import prod

from corral.gguf.errors import GgufError
from corral.gguf.header import Part, Scalar, SkippedArray, TensorInfo, Value
from corral.gguf.tensor_types import BY_ID, tensor_bytes

MAGIC = b"GGUF"
HEADER_LIMIT = 64 * 1024 * 1024  # the largest seen, with a vocabulary of 262,144, has 15 MiB
DEFAULT_ALIGNMENT = 32
_KEPT_ITEMS = 1024  # per-layer arrays have as many items as layers; what is longer is a vocabulary
_MOST_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
_SCALARS = {
    kind: struct.Struct(f"<{layout}")
    for kind, layout in ((0, "B"), (1, "b"), (2, "H"), (3, "h"), (4, "I"), (5, "i"), (6, "f"), (7, "?"), (10, "Q"),
                         (11, "q"), (12, "d"))
}  # fmt: skip
_U32, _U64 = _SCALARS[4], _SCALARS[10]

Buffer = bytes | bytearray | mmap.mmap


class IncompleteError(Exception):
    """The bytes end before the header does."""


def parse(data: Buffer, source: str) -> Part:
    """Read the header at the start of `data`; `source` names the file in messages.

    Raises:
        IncompleteError: more bytes are needed.
        GgufError: these are not the first bytes of a GGUF file that llama.cpp can read.
    """
    return _Parser(data, source).part()


class _Parser:
    """A cursor over the header."""

    def __init__(self, data: Buffer, source: str) -> None:
        self._data = data
        self._end = min(len(data), HEADER_LIMIT)
        self._source = source
        self._at = 0

    def part(self) -> Part:
        self._check_magic()
        version = self._number(_U32)
        if version not in (2, 3):
            cause = f"{self._source} is GGUF version {version}" if version < 2**16 else f"{self._source} is big-endian"
            raise GgufError(cause, "llama.cpp reads versions 2 and 3, little-endian: convert it again")
        tensor_count, pair_count = self._count(24), self._count(13)
        metadata: dict[str, Value] = {}
        for _ in range(pair_count):
            key = self._string()
            metadata[key] = self._value(self._number(_U32))
        infos = [self._tensor() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise self._corrupt(f"alignment {alignment!r}")
        return Part(
            metadata=metadata,
            tensors=tuple(info for info, _ in infos),
            data_start=-(-self._at // alignment) * alignment,
            data_bytes=max((offset + info.bytes for info, offset in infos), default=0),
        )

    def _check_magic(self) -> None:
        start = bytes(self._data[: len(MAGIC)])
        if start != MAGIC[: len(start)]:
            raise GgufError(f"{self._source} is no GGUF file (it does not start with 'GGUF')", "give a .gguf model")
        self._skip(len(MAGIC))

    def _tensor(self) -> tuple[TensorInfo, int]:
        name = self._string()
        dimensions = self._number(_U32)
        if dimensions > _MOST_DIMENSIONS:
            raise self._corrupt(f"tensor {name} with {dimensions} dimensions")
        shape = tuple(self._number(_U64) for _ in range(dimensions))
        type_id = self._number(_U32)
        kind = BY_ID.get(type_id)
        if kind is None:
            raise GgufError(
                f"{self._source}: tensor {name} has type {type_id}, which is unknown here",
                "convert it again, or update Corral if the type is new",
            )
        offset = self._number(_U64)
        if prod(shape) > 2**60 or (shape and shape[0] % kind.block):
            raise self._corrupt(f"tensor {name} with shape {shape} in {kind.name}")
        return TensorInfo(name, shape, kind.name, tensor_bytes(kind, shape)), offset

    def _value(self, kind: int) -> Value:
        if kind == _ARRAY:
            return self._array(self._number(_U32))
        return self._scalar(kind)

    def _scalar(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self._string()
        layout = _SCALARS.get(kind)
        if layout is None:
            raise self._corrupt(f"a value of unknown type {kind}")
        value: Scalar = layout.unpack_from(self._data, self._advance(layout.size))[0]
        return value

    def _array(self, kind: int) -> Value:
        if kind == _STRING:
            length = self._count(8)
            if length <= _KEPT_ITEMS:
                return tuple(self._string() for _ in range(length))
            self._skip_strings(length)
            return SkippedArray(length)
        layout = _SCALARS.get(kind)
        if layout is None:
            raise self._corrupt(f"an array of type {kind}")
        length = self._count(layout.size)
        start = self._advance(layout.size * length)
        if length > _KEPT_ITEMS:
            return SkippedArray(length)
        return tuple(item for (item,) in layout.iter_unpack(self._data[start : start + layout.size * length]))

    def _skip_strings(self, count: int) -> None:
        """Step over `count` strings, fast: Llama 3 has 128,256 tokens and 280,147 merges."""
        at, end, data = self._at, self._end - 8, self._data
        length_at: Callable[..., tuple[int]] = _U64.unpack_from
        for _ in range(count):
            if at > end:
                raise self._short()
            at += 8 + length_at(data, at)[0]
        self._at = at
        self._skip(0)

    def _string(self) -> str:
        length = self._number(_U64)
        start = self._advance(length)
        return bytes(self._data[start : start + length]).decode("utf-8", "replace")

    def _count(self, least_bytes: int) -> int:
        """Read a count of things that take `least_bytes` or more each: no more than the header may hold."""
        count = self._number(_U64)
        if count * least_bytes > HEADER_LIMIT:
            raise self._corrupt(f"a count of {count:,}")
        return count

    def _number(self, layout: struct.Struct) -> int:
        number: int = layout.unpack_from(self._data, self._advance(layout.size))[0]
        return number

    def _advance(self, count: int) -> int:
        start = self._at
        self._skip(count)
        return start

    def _skip(self, count: int) -> None:
        self._at += count
        if self._at > self._end:
            raise self._short()

    def _short(self) -> Exception:
        if self._end == HEADER_LIMIT:
            return self._corrupt(f"a header over {HEADER_LIMIT // 2**20} MiB")
        return IncompleteError()

    def _corrupt(self, what: str) -> GgufError:
        return GgufError(f"{self._source} is corrupt ({what})", "copy or download it again")
