"""Room on the disk, and what the file system refuses."""

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from corral.models.errors import ModelError


def check_room(folder: Path, needed: Mapping[str, int], reserve: int) -> None:
    """See that a folder's disk has room.

    Args:
        folder: where it is to lie.
        needed: bytes still to be written, by file or model.
        reserve: bytes to be left free.

    Raises:
        ModelError: it has not; says how much is missing.
    """
    free = shutil.disk_usage(folder).free
    missing = sum(needed.values()) + reserve - free
    if missing > 0:
        parts = ", ".join(f"{name} {megabytes(size)}" for name, size in needed.items())
        raise no_room(
            folder,
            f"{parts} and a reserve of {megabytes(reserve)} are needed, {megabytes(free)} are free: "
            f"{megabytes(missing)} are missing",
        )


def no_room(folder: Path, detail: str) -> ModelError:
    """Return the error for a full disk."""
    return ModelError(f"no room on the disk of {folder} ({detail})", "free some, or choose another directory")


def megabytes(size: int) -> str:
    """Return a size for people, in units of a thousand as disks are sold."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into a ModelError with a mend."""
    try:
        yield
    except TimeoutError as error:
        raise ModelError(str(error), "stop that process, then try again") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_room(folder, str(error.strerror)) from error
        where = error.filename or folder
        raise ModelError(
            f"{where}: {error.strerror or error}", "check its owner and permissions, and the disk"
        ) from error
