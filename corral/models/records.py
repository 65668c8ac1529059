"""What lies in a models folder: a file's name, its half-fetched part, and the record of how it came.

    NAME.gguf            the model; only ever a whole one, put there by a rename
    NAME.gguf.json       its record: origin, size, SHA-256, and the modification time at which that was seen
    NAME.gguf.part       what is fetched so far
    NAME.gguf.part.json  of what that is a part
    .NAME.gguf.lock      held (flock) by whoever writes one of these; stays, and holds nothing

NAME is the model's name in the farm file: it stays when the source changes, so rendered files stay too.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from corral.models.files import replacing

SUFFIX = ".gguf"
MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class Record:
    """How a file came, and what it was when its SHA-256 was taken.

    `checked` says that somebody else than the server that sent it (the farm file, the hub) had told the SHA-256;
    `damaged`, that the file has had another one since.
    """

    origin: dict[str, str]
    size: int
    sha256: str
    checked: bool
    mtime_ns: int
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one fetched model."""

    folder: Path
    name: str

    @property
    def target(self) -> Path:
        """The model."""
        return self.folder / (self.name + SUFFIX)

    @property
    def part(self) -> Path:
        """What is fetched so far."""
        return self.folder / (self.name + SUFFIX + ".part")

    @property
    def part_of(self) -> Path:
        """JSON: of what that is a part."""
        return self.folder / (self.name + SUFFIX + ".part.json")

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.folder / ("." + self.name + SUFFIX + ".lock")

    @property
    def record_file(self) -> Path:
        """JSON: the record."""
        return self.folder / (self.name + SUFFIX + ".json")

    def record(self) -> Record | None:
        """Return the record; None if there is none that can be read."""
        document = read_json(self.record_file)
        if document is None:
            return None
        try:
            return Record(**document)
        except TypeError:
            return None

    def recorded(self) -> Record | None:
        """Return the record if it still speaks of the file that is there: by its size and modification time."""
        record = self.record()
        try:
            status = self.target.stat()
        except OSError:
            return None
        if record is None or record.damaged or (status.st_size, status.st_mtime_ns) != (record.size, record.mtime_ns):
            return None
        return record

    def write_record(self, record: Record) -> None:
        """Keep the record of the file as it is there now."""
        status = self.target.stat()
        write_json(self.record_file, asdict(replace(record, size=status.st_size, mtime_ns=status.st_mtime_ns)))

    def own(self) -> Iterator[Path]:
        """Give those that are there, without the lock."""
        return (path for path in (self.target, self.record_file, self.part, self.part_of) if path.exists())


def fetched_in(folder: Path) -> list[str]:
    """Return the names of the models that were fetched into a folder, wholly or in part."""
    kinds = (SUFFIX + ".json", SUFFIX + ".part")
    return sorted({path.name.removesuffix(kind) for kind in kinds for path in folder.glob("*" + kind)})


def has_magic(path: Path) -> bool:
    """Return whether a file starts as every GGUF does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None if the file is missing, or holds something else."""
    with suppress(OSError, ValueError):
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict):
            return document
    return None


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Replace a JSON file in one step."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
