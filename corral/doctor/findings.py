"""What the doctor is asked to look at, and what it found."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")
"""From harmless to what keeps the farm from working."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `mend` is empty where there is nothing to mend."""

    check: str
    level: Level
    what: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class WantedGpu:
    """A GPU as the farm file has it. None is what it does not say."""

    uuid: str
    memory_mib: int | None = None
    power_limit_w: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the farm needs, as far as the doctor can look at it from this machine.

    Attributes:
        servers: name and base URL of each gpu-server.
        gate_url: base URL of the LiteLLM proxy.
        ports: name and number of each port that a part of the farm listens on, on this machine.
        gpus: the GPUs of this machine.
        cuda: the CUDA major version that llama-server was built with.
        containers: whether the farm runs in containers here.
        models_dir: the folder with the models.
        models_bytes: what is still to be put there.
        private_files: files and folders that hold secrets: for their owner alone.
        llama_server: the binary; looked for on PATH if None.
    """

    servers: tuple[tuple[str, str], ...] = ()
    gate_url: str | None = None
    ports: tuple[tuple[str, int], ...] = ()
    gpus: tuple[WantedGpu, ...] = ()
    cuda: int = 12
    containers: bool = False
    models_dir: Path | None = None
    models_bytes: int = 0
    private_files: tuple[Path, ...] = ()
    llama_server: Path | None = None


def worst(findings: Iterable[Finding]) -> Level:
    """Return the most serious level; `ok` if there is no finding."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")
