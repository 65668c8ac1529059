"""Make the packaged models ready to serve, and check that they still are.

`prepare` is safe to call at every start and from several processes at once. What is right is left alone; what is
missing or damaged among the converted files is converted again; a damaged package cannot be mended from here and is an
error that says how.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.models.catalogue import CATALOGUE, REINSTALL, PackagedModel, PinnedFile, package_dir
from corral.models.disk import disk_errors, no_room
from corral.models.errors import FormatError, ModelError
from corral.models.files import exclusively, replacing
from corral.models.stamps import Stamps

STAMPS_NAME = "verified.json"
LOCK_NAME = ".lock"
LOCK_TIMEOUT_S = 120.0
SPARE_BYTES = 16 * 1024 * 1024  # of disk, left free beside what is written

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Check:
    """One file that `verify` looked at. `problem` is None if it is right, `mend` says what to do if not."""

    model: str
    path: Path
    problem: str | None
    mend: str


def prepare(
    models_dir: Path,
    progress: Progress,
    models: Iterable[PackagedModel] = tuple(CATALOGUE.values()),
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> dict[str, Path]:
    """Make each model ready and return the path of its GGUF by name.

    `progress` gets one line of text per step. Checksums are taken on the first start, and again when a file's size or
    modification time has changed. Needs about 0.01 s when all is ready, 1 s when MiniLM must be converted.

    Raises:
        ModelError: a package is missing or damaged, the disk is full or not writable, or another `prepare` hangs.
    """
    with disk_errors(models_dir):
        models_dir.mkdir(parents=True, exist_ok=True)
        lock = models_dir / LOCK_NAME
        with exclusively(lock, lock_timeout_s, lambda: progress("waiting for another process that prepares models")):
            stamps = Stamps(models_dir / STAMPS_NAME)
            return {model.name: _ready(model, models_dir, stamps, progress) for model in models}


def verify(models_dir: Path, models: Iterable[PackagedModel] = tuple(CATALOGUE.values())) -> list[Check]:
    """Hash every file that is served or converted from, trusting no stamp, and say what is wrong with which.

    Raises:
        ModelError: a package is not installed, or a file cannot be read.
    """
    stamps = Stamps(models_dir / STAMPS_NAME)
    with disk_errors(models_dir):
        return [
            Check(model.name, path, stamps.problem(path, pinned, trust=False), mend)
            for model in models
            for path, pinned, mend in _files(model, models_dir)
        ]


def _files(model: PackagedModel, models_dir: Path) -> Iterator[tuple[Path, PinnedFile, str]]:
    for source in model.sources:
        yield package_dir(model) / source.path, source, REINSTALL
    if model.converted is not None:
        mend = f"convert it again: python -m corral.models prepare --into {models_dir}"
        yield model.location(models_dir), model.converted, mend


def _ready(model: PackagedModel, models_dir: Path, stamps: Stamps, progress: Progress) -> Path:
    path = model.location(models_dir)
    problem = stamps.problem(path, model.served)
    if problem is not None:
        if model.converted is None:
            raise ModelError(f"{path} {problem}", REINSTALL)
        progress(f"{model.name}: {path.name} {problem}; converting it from package {model.distribution}")
        _convert(model, model.converted, path, stamps)
    progress(f"{model.name}: {model.title} is ready ({model.served.size / 1e6:.0f} MB, {path})")
    return path


def _convert(model: PackagedModel, converted: PinnedFile, target: Path, stamps: Stamps) -> None:
    directory = package_dir(model)
    for source in model.sources:
        problem = stamps.problem(directory / source.path, source)
        if problem is not None:
            raise ModelError(f"{directory / source.path} {problem}", REINSTALL)
    _check_room(target.parent, converted.size)
    # Here, not above: numpy and gguf cost 0.4 s and 30 MB, and are only needed now.
    from corral.models.conversion import convert_bert

    weights = directory / model.sources[0].path
    with replacing(target) as partial:
        try:
            convert_bert(weights.parent, partial, name=target.name.split(".")[0], licence=model.licence)
        except FormatError as error:
            raise ModelError(str(error), REINSTALL) from error
        problem = stamps.problem(partial, converted, trust=False)
        if problem is not None:  # the sources were right, so it is the converter or one of its libraries
            raise ModelError(f"converting {model.name} gave other bytes than this version of Corral expects", REINSTALL)
    stamps.problem(target, converted)  # stamps it


def _check_room(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed + SPARE_BYTES:
        raise no_room(directory, f"needs {(needed + SPARE_BYTES) / 1e6:.0f} MB, {free / 1e6:.0f} MB are free")
