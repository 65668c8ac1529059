"""Remember which files had the right checksum, so that a warm start does not read 150 MB again.

A stamp holds as long as the file's size and modification time do. That notices a file that was replaced, cut or written
to; bytes that rot on the disk behind the file system's back are noticed by `verify`, which trusts no stamp.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from corral.models.catalogue import PinnedFile
from corral.models.files import replacing, sha256_of


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file looked like when its checksum was last seen right."""

    size: int
    mtime_ns: int
    sha256: str


class Stamps:
    """The stamps in one JSON file. A stamp file that cannot be read only costs the hashing again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamps = _load(path)

    def problem(self, file: Path, pinned: PinnedFile, *, trust: bool = True) -> str | None:
        """Say what is wrong with `file`, or None. Hashes it unless its stamp holds; stamps it when the hash is right.

        With `trust` off, stamps are neither used nor written.

        Raises:
            OSError: the file is there but cannot be read, or the stamp cannot be written.
        """
        try:
            status = file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return "is missing"
        if status.st_size != pinned.size:
            return f"is damaged: {status.st_size} bytes instead of {pinned.size}"
        stamp = Stamp(status.st_size, status.st_mtime_ns, pinned.sha256)
        if trust and self._stamps.get(str(file)) == stamp:
            return None
        if sha256_of(file) != pinned.sha256:
            return "is damaged: its SHA-256 is not the expected one"
        if trust:
            self._stamps[str(file)] = stamp
            self._save()
        return None

    def _save(self) -> None:
        document = {
            file: {"size": stamp.size, "mtime_ns": stamp.mtime_ns, "sha256": stamp.sha256}
            for file, stamp in sorted(self._stamps.items())
        }
        with replacing(self._path) as partial:
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _load(path: Path) -> dict[str, Stamp]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {file: Stamp(**fields) for file, fields in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
