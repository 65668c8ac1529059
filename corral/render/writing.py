"""Rendered files against what lies on the disk: what is new, what differs, what is left over."""

import difflib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from corral.errors import CorralError
from corral.render.document import Rendered, is_ours

State: TypeAlias = Literal["created", "changed", "unchanged", "stale"]

# Where each target writes; what carries our header there and is not rendered any more, is left over.
_PLACES: dict[str, tuple[str, ...]] = {
    "gpu-hosts": ("hosts/*/gpu-server/compose.yaml",),
    "litellm": ("litellm/config.yaml", "litellm/compose.yaml"),
    "monitoring": (
        "monitoring/compose.yaml",
        "hosts/*/exporters/compose.yaml",
        "monitoring/prometheus/prometheus.yml",
        "monitoring/prometheus/targets/*.yml",
        "monitoring/prometheus/rules/*.yml",
    ),
    "langfuse": ("langfuse/compose.yaml",),
    "load-tests": ("load-tests/targets.json",),
    "kubernetes": ("kubernetes/*.yaml", "kubernetes/gpu-servers/*.yaml"),
}


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one file.

    Attributes:
        path: relative to the folder that is rendered into.
        state: `stale`: rendered once, by a farm file that said more.
        before: what is there; None if nothing is.
        after: what is to be there; None for a stale file.
    """

    path: PurePosixPath
    state: State
    before: str | None
    after: str | None

    def diff(self) -> Iterator[str]:
        """Give the lines of a unified diff."""
        return difflib.unified_diff(
            (self.before or "").splitlines(),
            (self.after or "").splitlines(),
            f"a/{self.path}" if self.before is not None else "/dev/null",
            f"b/{self.path}" if self.after is not None else "/dev/null",
            lineterm="",
        )


def compare(out: Path, files: Sequence[Rendered], targets: Iterable[str]) -> tuple[Change, ...]:
    """Return what rendering into a folder would do, by path.

    Args:
        out: the folder; need not exist.
        files: what is rendered.
        targets: what was rendered; leftovers of others are not looked for.

    Raises:
        CorralError: a file would be overwritten that was not rendered; exit code 2.
    """
    changes = [_change(out, file) for file in files]
    wanted = {file.path for file in files}
    foreign = [change.path for change in changes if change.before is not None and not is_ours(change.before)]
    if foreign:
        raise CorralError(
            f"{out / foreign[0]} is there, and was not rendered from a farm file",
            "move it away, or render into another folder with --out", exit_code=2,
        )  # fmt: skip
    for target in targets:
        for pattern in _PLACES[target]:
            for found in out.glob(pattern):
                path = PurePosixPath(found.relative_to(out).as_posix())
                if path not in wanted and is_ours(text := _read(found) or ""):
                    changes.append(Change(path, "stale", text, None))
    return tuple(sorted(changes, key=lambda change: change.path))


def write(out: Path, changes: Iterable[Change], *, prune: bool) -> None:
    """Write what is new or differs, each file in one step; `prune` removes what is stale, and folders left empty."""
    for change in changes:
        target = out / change.path
        if change.state in ("created", "changed") and change.after is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, change.after)
        elif change.state == "stale" and prune:
            target.unlink(missing_ok=True)
            _remove_empty(target.parent, out)


def _change(out: Path, file: Rendered) -> Change:
    before = _read(out / file.path)
    state: State = "created" if before is None else "unchanged" if before == file.text else "changed"
    return Change(file.path, state, before, file.text)


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _replace(target: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        partial.chmod(0o644)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
