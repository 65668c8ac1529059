"""A file that is being fetched: bytes so far, their running SHA-256, and what they are a part of."""

import asyncio
import hashlib
import os
from dataclasses import asdict, dataclass
from typing import Self

from corral.models.records import Files, has_magic, read_json, write_json
from corral.models.remote import Remote

MODE = 0o644  # llama-server may run as another user
_PIECE = 8 * 1024 * 1024  # bytes hashed at a time, so that Ctrl-C need not wait for a file of gigabytes


@dataclass(frozen=True, slots=True)
class PartOf:
    """The version of the file that a part belongs to."""

    url: str
    size: int | None
    validator: str | None
    sha256: str | None

    @property
    def can_resume(self) -> bool:
        """Whether more bytes can be told to belong to those that are there."""
        return self.size is not None and (self.validator is not None or self.sha256 is not None)


class Part:
    """Opens NAME.gguf.part for writing; the caller holds the model's lock. A context manager.

    What is there is kept if it is a part of the same version of the file, else thrown away. It stays when the block
    ends early: the next attempt, or the next process, goes on from there.
    """

    def __init__(self, files: Files, remote: Remote, sha256: str | None) -> None:
        self.of = PartOf(remote.url, remote.size, remote.validator, sha256)
        self.size = 0
        self._files = files
        self._sha256 = hashlib.sha256()
        same = self.of.can_resume and read_json(files.part_of) == asdict(self.of)
        if not same:
            files.part.unlink(missing_ok=True)
            write_json(files.part_of, asdict(self.of))
        self._file = files.part.open("r+b" if files.part.exists() else "x+b")

    async def read_again(self) -> None:
        """Take the bytes that an earlier process left into size and SHA-256."""
        while piece := await asyncio.to_thread(self._file.read, _PIECE):
            await asyncio.to_thread(self._sha256.update, piece)
            self.size += len(piece)
        if self.of.size is not None and self.size > self.of.size:
            self.restart()

    def tell(self) -> int:
        """Return how many bytes are there."""
        return self.size

    def write(self, piece: bytes) -> None:
        """Add bytes at the end."""
        self._file.write(piece)
        self._sha256.update(piece)
        self.size += len(piece)

    def restart(self) -> None:
        """Throw away what is there."""
        self._file.seek(0)
        self._file.truncate()
        self._sha256 = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of what is there."""
        return self._sha256.hexdigest()

    def is_gguf(self) -> bool:
        """Return whether what is there starts as a GGUF does."""
        self._file.flush()
        return has_magic(self._files.part)

    def finish(self) -> None:
        """Put it on disk, then in place of NAME.gguf in one step."""
        self._file.flush()
        os.fchmod(self._file.fileno(), MODE)
        os.fsync(self._file.fileno())
        self._files.part.replace(self._files.target)
        folder = os.open(self._files.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._files.part_of.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing of it."""
        self._files.part.unlink(missing_ok=True)
        self._files.part_of.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
