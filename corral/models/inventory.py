"""What is in a models folder: list it, hash it again, remove from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corral.models.disk import disk_errors, megabytes
from corral.models.errors import ModelError
from corral.models.files import exclusively, sha256_of
from corral.models.preparation import verify as verify_packaged
from corral.models.quantisation import quantisation
from corral.models.records import Files, Record, fetched_in, has_magic, read_json
from corral.models.sources import AnySource, PackageSource, PathSource
from corral.models.wanted import Wanted, is_name

NOT_WANTED = "not in the farm file"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model as it is now, told from sizes and records; nothing is hashed.

    `state` is `ready`, `partial 43 %`, `missing` or `wrong`, and `why` says more where there is more to say.
    """

    name: str
    source: str
    path: Path | None
    size: int | None
    quantisation: str | None
    state: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One file that was hashed. `problem` is None if it is right; not `checked`: only its sender told what is right."""

    name: str
    path: Path
    problem: str | None
    mend: str
    checked: bool = True


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal takes away."""

    name: str
    paths: tuple[Path, ...]
    size: int


def entries(wanted: Sequence[Wanted], into: Path) -> list[Entry]:
    """Return the models of the farm file, then those in the folder that it does not name."""
    names = {one.name for one in wanted}
    with disk_errors(into):
        left = [name for name in fetched_in(into) if name not in names and is_name(name)]
        return [*(_entry(one, into) for one in wanted), *(_left_entry(Files(into, name)) for name in left)]


def verify(wanted: Sequence[Wanted], into: Path) -> list[Verdict]:
    """Hash each model's file again, whatever was seen before.

    A file is compared with the SHA-256 of the farm file, else with the one taken when it was pulled.

    Raises:
        ModelError: a package is not installed, or a file cannot be read.
    """
    with disk_errors(into):
        return [verdict for one in wanted for verdict in _verdicts(one, into)]


def removal(name: str, source: AnySource | None, into: Path) -> Removal:
    """Say what removing a model would take away.

    Args:
        name: the model's name.
        source: where it comes from, if the farm file names it.
        into: the models folder.

    Raises:
        ModelError: it is not ours to remove, or it is not there.
    """
    if not is_name(name):
        raise ModelError(f"no model is called {name!r}", "see: corral models list", exit_code=2)
    if isinstance(source, PathSource):
        raise ModelError(f"{name} is {source}, which Corral did not put there", "remove the file by hand", exit_code=2)
    if isinstance(source, PackageSource):
        if source.model.converted is None:
            mend = f"uninstall that instead: {source.model.distribution}"
            raise ModelError(f"{name} lies in a Python package", mend, exit_code=2)
        converted = source.model.location(into)
        paths = tuple(path for path in (converted,) if path.exists())
    else:
        paths = tuple(Files(into, name).own())
    if not paths:
        known = f"the farm file has it, but nothing of it is in {into}" if source else f"no such model is in {into}"
        raise ModelError(f"{name}: {known}", "see: corral models list", exit_code=1 if source else 2)
    return Removal(name, paths, sum(path.stat().st_size for path in paths))


def remove(planned: Removal, into: Path) -> None:
    """Carry out a removal.

    Raises:
        ModelError: it is being pulled, or the file system refuses.
    """
    try:
        with disk_errors(into), exclusively(Files(into, planned.name).lock, 0.0, lambda: None):
            for path in planned.paths:
                path.unlink(missing_ok=True)
    except ModelError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise ModelError(f"{planned.name} is being pulled right now", "stop that, or wait for its end") from error
        raise


def _entry(wanted: Wanted, into: Path) -> Entry:
    source = wanted.source
    try:
        path = wanted.location(into)
    except ModelError as error:
        return Entry(wanted.name, str(source), None, None, None, "missing", str(error))
    if isinstance(source, PackageSource):
        state, why = _state_of_packaged(path, source.model.served.size)
    elif isinstance(source, PathSource):
        state, why = ("ready", "") if path.is_file() else ("missing", f"{path} is not there")
    else:
        state, why = _state_of_fetched(Files(into, wanted.name), source.origin, source.sha256)
    return _with_file(wanted.name, str(source), path, state, why)


def _state_of_packaged(path: Path, size: int) -> tuple[str, str]:
    if not path.is_file():
        return "missing", "corral models pull makes it"
    return ("ready", "") if path.stat().st_size == size else ("wrong", "its size is not the expected one")


def _state_of_fetched(files: Files, origin: dict[str, str], expected: str | None) -> tuple[str, str]:
    partial = _partial(files)
    if not files.target.is_file():
        return partial or ("missing", "")
    record = files.record()
    if record is None:
        return "ready", "not pulled by Corral and not checked; see: corral models verify"
    why = ""
    if record.origin != origin:
        why = "pulled from another source than the farm file has now"
    elif expected not in (None, record.sha256):
        why = "its SHA-256 is not the one in the farm file"
    elif record.damaged:
        why = "verify found it damaged"
    elif record.size != files.target.stat().st_size:
        why = "its size is not the one that was pulled"
    if why:
        return partial or ("wrong", why + ": pull it again")
    return "ready", "" if record.checked else "unchecked: no SHA-256 was given for it"


def _partial(files: Files) -> tuple[str, str] | None:
    if not files.part.is_file():
        return None
    size = files.part.stat().st_size
    total = (read_json(files.part_of) or {}).get("size")
    share = f" {100 * size // total} %" if isinstance(total, int) and total > 0 else ""
    return f"partial{share}", f"{megabytes(size)} are here: pull goes on from there"


def _left_entry(files: Files) -> Entry:
    record = files.record()
    source = " ".join(record.origin.values()) if record else "unknown"
    state, why = ("ready", "") if files.target.is_file() else _partial(files) or ("missing", "")
    why = f"{NOT_WANTED}: corral models rm {files.name}" if not why else f"{NOT_WANTED}; {why}"
    return _with_file(files.name, source, files.target, state, why)


def _with_file(name: str, source: str, path: Path, state: str, why: str) -> Entry:
    if not path.is_file():
        return Entry(name, source, path, None, None, state, why)
    if state == "ready" and not has_magic(path):
        state, why = "wrong", "it is no GGUF file"
    return Entry(name, source, path, path.stat().st_size, quantisation(path), state, why)


def _verdicts(wanted: Wanted, into: Path) -> list[Verdict]:
    source = wanted.source
    if isinstance(source, PackageSource):
        checks = verify_packaged(into, (source.model,))
        return [Verdict(wanted.name, check.path, check.problem, check.mend) for check in checks]
    path = wanted.location(into)
    again = "put it there again" if isinstance(source, PathSource) else f"corral models pull {wanted.name}"
    if not path.is_file():
        return [Verdict(wanted.name, path, "is missing", again)]
    if not has_magic(path):
        return [Verdict(wanted.name, path, "is no GGUF file", again)]
    files = None if isinstance(source, PathSource) else Files(into, wanted.name)
    record = files.record() if files else None
    expected = source.sha256 or (record.sha256 if record else None)
    if expected is None:
        return [Verdict(wanted.name, path, None, "", checked=False)]
    actual = sha256_of(path)
    if actual != expected:
        if files and record:
            files.write_record(replace(record, damaged=True))
        return [Verdict(wanted.name, path, f"is damaged: SHA-256 {actual} instead of {expected}", again)]
    checked = source.sha256 is not None or (record is not None and record.checked)
    if files and files.recorded() is None:
        files.write_record(Record(source.origin, path.stat().st_size, actual, checked, mtime_ns=0))
    return [Verdict(wanted.name, path, None, "", checked)]
