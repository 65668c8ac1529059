"""Headers of local files: one .gguf, or all parts of a split one (`-00001-of-00003.gguf`)."""

import mmap
import re
from pathlib import Path

from corral.gguf.errors import GgufError
from corral.gguf.header import Header, Part, assemble
from corral.gguf.parser import IncompleteError, parse

_SPLIT = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


def read_file(path: Path) -> Header:
    """Read the header of the model at `path`; of a split model, any part may be named.

    Raises:
        GgufError: a file is missing, cannot be read, is no GGUF, corrupt or shorter than its header announces.
    """
    parts: list[Part] = []
    total = 0
    for part_path in _parts(path):
        part, size = _read_part(part_path)
        parts.append(part)
        total += size
    return assemble(str(path), parts, total)


def part_names(name: str) -> tuple[str, ...]:
    """Return the names of all parts of the split model that `name` belongs to; `name` alone if it is not split."""
    split = _SPLIT.match(name)
    if split is None:
        return (name,)
    count = split["count"]
    return tuple(f"{split['stem']}-{number:05d}-of-{count}.gguf" for number in range(1, int(count) + 1))


def _parts(path: Path) -> list[Path]:
    return [path.with_name(name) for name in part_names(path.name)]


def _read_part(path: Path) -> tuple[Part, int]:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                raise GgufError(f"{path} is empty", "copy or download it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                part = parse(data, str(path))
    except IncompleteError:
        raise _cut_short(path, "its header is not whole") from None
    except FileNotFoundError:
        raise GgufError(f"{path} does not exist", "put the model there or correct the path") from None
    except IsADirectoryError:
        raise GgufError(f"{path} is a folder", "give the .gguf file in it") from None
    except OSError as error:
        raise GgufError(f"{path} cannot be read ({error.strerror})", "mend its permissions") from None
    if part.data_start + part.data_bytes > size:
        raise _cut_short(path, f"{size:,} of {part.data_start + part.data_bytes:,} bytes")
    return part, size


def _cut_short(path: Path, how: str) -> GgufError:
    return GgufError(f"{path} is cut short ({how})", "copy or download it again")
