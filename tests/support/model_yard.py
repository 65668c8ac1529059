"""Models of made-up bytes, and `pull` of them into a folder of its own."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corral.models.fetch import Pulled, pull
from corral.models.persistence import Patience
from corral.models.sources import SOURCE
from corral.models.wanted import Wanted

QUICK = Patience(attempts=4, first_s=0.01, longest_s=0.02)


class Told:
    """Keeps what is told while models are pulled."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.listeners: list[Callable[[str, int], None]] = []

    def say(self, name: str, line: str) -> None:
        self.lines.append(f"{name}: {line}")

    def advance(self, name: str, done: int, _total: int | None) -> None:
        for listener in self.listeners:
            listener(name, done)

    def end(self, name: str) -> None:
        pass

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Yard:
    """A models folder and what is pulled into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told = Told()

    def wanted(self, name: str, **source: Any) -> Wanted:
        return Wanted(name, SOURCE.validate_python(source), self.folder.parent)

    async def pull_all(self, *wanted: Wanted, **how: Any) -> list[Pulled]:
        async with asyncio.timeout(30):
            return await pull(wanted, self.folder, self.told, patience=how.pop("patience", QUICK), **how)

    async def pull(self, name: str, *, how: dict[str, Any] | None = None, **source: Any) -> Pulled:
        return (await self.pull_all(self.wanted(name, **source), **(how or {})))[0]

    def bytes_of(self, name: str) -> bytes:
        return (self.folder / f"{name}.gguf").read_bytes()

    def names(self) -> set[str]:
        """Return what lies in the folder, locks aside."""
        return {path.name for path in self.folder.iterdir() if not path.name.endswith(".lock")}


def gguf(size: int = 1_000_000, seed: int = 0) -> bytes:
    """Return bytes that start as a GGUF and are different for each seed."""
    block = hashlib.sha512(str(seed).encode()).digest() * 1024
    return (b"GGUF" + block * (size // len(block) + 1))[:size]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
