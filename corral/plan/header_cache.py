"""Headers that were read from a server, kept as JSON: one file for each address, its version and its size in it.

A file that cannot be read, or does not hold what its name promises, is as good as none.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, ValidationError

from corral.gguf.header import Header, SkippedArray, TensorInfo, Value
from corral.paths import write_private

_VERSION = 1


class _Skipped(BaseModel):
    model_config = ConfigDict(extra="forbid")
    length: int


_Value = bool | int | float | str | list[bool | int | float | str] | _Skipped


class _Entry(BaseModel):
    """A header, and the file it was read from."""

    version: int
    url: str
    validator: str | None
    architecture: str
    name: str
    metadata: dict[str, _Value]
    tensors: list[tuple[str, tuple[int, ...], str, int]]
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Version:
    """What a file is now, as its server says: a strong ETag or a date, and its size. None where it does not say."""

    validator: str | None
    size: int | None


@dataclass(frozen=True, slots=True)
class HeaderCache:
    """The headers in a folder."""

    folder: Path

    def find(self, url: str, version: Version | None) -> Header | None:
        """Return the header of an address; None if there is none, or of another version or size than it has now.

        Without a version (nobody could be asked), what is there counts. A version without validator counts for none.
        """
        try:
            entry = _Entry.model_validate_json(self._file(url).read_bytes())
        except (OSError, ValidationError):
            return None
        if entry.version != _VERSION or entry.url != url:
            return None
        now = (entry.validator, entry.file_bytes)
        if version is not None and (version.validator is None or (version.validator, version.size) != now):
            return None
        return _header(entry)

    def keep(self, url: str, version: Version, header: Header) -> None:
        """Keep a header; a folder that cannot be written to is left alone, for it is a cache only."""
        if version.size != header.file_bytes:
            return  # the file changed between the question and the answer
        entry = _Entry(
            version=_VERSION,
            url=url,
            validator=version.validator,
            architecture=header.architecture,
            name=header.name,
            metadata={key: _plain(value) for key, value in header.metadata.items()},
            tensors=[(tensor.name, tensor.shape, tensor.type, tensor.bytes) for tensor in header.tensors],
            file_bytes=header.file_bytes,
        )
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._file(url), entry.model_dump_json())

    def _file(self, url: str) -> Path:
        return self.folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"


def _plain(value: Value) -> _Value:
    if isinstance(value, SkippedArray):
        return _Skipped(length=value.length)
    return list(value) if isinstance(value, tuple) else value


def _header(entry: _Entry) -> Header:
    def value(given: _Value) -> Value:
        if isinstance(given, _Skipped):
            return SkippedArray(given.length)
        return tuple(given) if isinstance(given, list) else given

    return Header(
        source=entry.url,
        architecture=entry.architecture,
        name=entry.name,
        metadata=MappingProxyType({key: value(given) for key, given in entry.metadata.items()}),
        tensors=tuple(TensorInfo(*tensor) for tensor in entry.tensors),
        file_bytes=entry.file_bytes,
    )
