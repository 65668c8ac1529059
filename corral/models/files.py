"""Files that are never half there, and checksums."""

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO

POLL_S = 0.1


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal; about 0.1 s per 100 MB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; renamed over `target` and synced to disk if the block ends well.

    On an error the temporary file is removed and `target` is as it was. A process killed in the block leaves
    `NAME.partial`, which the next writer overwrites: callers hold `exclusively`, so there is one writer at a time.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def exclusively(lock: Path, timeout_s: float, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file against other processes for the block; the kernel frees it if this process dies.

    `waiting` is called once if somebody else holds it.

    Raises:
        TimeoutError: still held by another after `timeout_s`.
        OSError: the lock file cannot be opened.
    """
    with lock.open("a") as file:
        deadline = time.monotonic() + timeout_s
        told = False
        while not _try_lock(file.fileno()):
            if not told:
                waiting()
                told = True
            if time.monotonic() > deadline:
                raise TimeoutError(f"{lock} is held by another process since {timeout_s:.0f} s")
            time.sleep(POLL_S)
        yield  # closing the file lets go


@asynccontextmanager
async def exclusively_async(lock: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """As `exclusively`, without blocking the event loop, and for as long as it takes: a download may take hours.

    Raises:
        OSError: the lock file cannot be opened.
    """
    with _opened(lock) as file:
        told = False
        while not _try_lock(file.fileno()):
            if not told:
                waiting()
                told = True
            await asyncio.sleep(POLL_S)
        yield


def _opened(lock: Path) -> IO[str]:
    return lock.open("a")


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
