"""Tells a whole GGUF file from a missing, foreign or half-copied one, before a server tries to load it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from pathlib import Path

MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class ModelFileError(Exception):
    """The model file cannot be loaded; the message says why and what to do."""


def check_model_file(path: Path) -> None:
    """Read `path`'s header to its end and see that the file is long enough to hold every tensor it announces.

    Costs 10-100 ms, most of it walking the vocabulary; the weights are not read.

    Raises:
        ModelFileError: The file is missing, unreadable, not GGUF or cut short.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise ModelFileError(f"{path} is no GGUF file (it does not start with 'GGUF'); give a .gguf model")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _Header(path, data).check()
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist; put the model there or correct the path") from None
    except IsADirectoryError:
        raise ModelFileError(f"{path} is a folder; give the .gguf file in it") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}); mend its permissions") from None


class _Header:
    """A cursor over a GGUF header that refuses to read past the file's end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._at = 4

    def check(self) -> None:
        version, tensors, pairs = self._unpack("<IQQ")
        if version not in (2, 3):
            raise ModelFileError(f"{self._path} is GGUF version {version}; llama.cpp reads 2 and 3: convert it again")
        for _ in range(pairs):
            self._skip_string()
            (kind,) = self._unpack("<I")
            self._skip_value(kind)
        last_offset = 0
        for _ in range(tensors):
            self._skip_string()
            (dimensions,) = self._unpack("<I")
            self._skip(8 * dimensions + 4)
            (offset,) = self._unpack("<Q")
            last_offset = max(last_offset, offset)
        # Each tensor has at least a byte after its offset; the alignment only makes the real start later.
        if self._at + last_offset >= len(self._data):
            raise self._truncated()

    def _unpack(self, layout: str) -> tuple[int, ...]:
        start = self._at
        self._skip(struct.calcsize(layout))
        return struct.unpack_from(layout, self._data, start)

    def _skip(self, count: int) -> None:
        self._at += count
        if self._at > len(self._data):
            raise self._truncated()

    def _skip_string(self) -> None:
        (length,) = self._unpack("<Q")
        self._skip(length)

    def _skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip_string()
        elif kind == _ARRAY:
            item_kind, count = self._unpack("<IQ")
            if item_kind in _SCALAR_BYTES:
                self._skip(_SCALAR_BYTES[item_kind] * count)
            elif item_kind == _STRING:
                self._skip_strings(count)
            else:
                raise ModelFileError(f"{self._path} is corrupt (an array of unknown type {item_kind}); copy it again")
        elif kind in _SCALAR_BYTES:
            self._skip(_SCALAR_BYTES[kind])
        else:
            raise ModelFileError(f"{self._path} is corrupt (a value of unknown type {kind}); copy it again")

    def _skip_strings(self, count: int) -> None:
        """As `_skip_string`, `count` times: vocabularies have 300,000 of them, so this one is written for speed."""
        data, at, end = self._data, self._at, len(self._data)
        for _ in range(count):
            at += 8 + int.from_bytes(data[at : at + 8], "little")
            if at > end:
                raise self._truncated()
        self._at = at

    def _truncated(self) -> ModelFileError:
        return ModelFileError(
            f"{self._path} is cut short or corrupt ({len(self._data)} bytes are not enough for what its header "
            "announces); copy or download it again"
        )
