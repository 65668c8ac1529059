"""Disk, secrets' modes and the kernel's clock."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from corral.doctor.host import check_clock_synchronised, check_disk, check_private, clock_state

GB = 10**9


@pytest.mark.parametrize(
    ("free", "needed", "level", "said"),
    [
        (100 * GB, 0, "ok", "100.0 GB free"),
        (100 * GB, 20 * GB, "ok", "100.0 GB free"),
        (10 * GB, 20 * GB, "error", "10.0 GB free for"),
        (21 * GB, 20 * GB, "warning", "21.0 GB free for"),
    ],
)
def test_disk_room_is_compared_with_what_is_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, needed: int, level: str, said: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    finding = check_disk(tmp_path / "not" / "there" / "yet", needed)
    assert finding.level == level
    assert said in finding.what
    assert bool(finding.mend) == (level != "ok")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.doctor.host.os.access", lambda *_: False)  # root may write anywhere
    assert check_disk(tmp_path, 0).what == f"{tmp_path} cannot be written"


@pytest.mark.parametrize(
    ("folder", "mode", "level"),
    [(False, 0o600, "ok"), (False, 0o400, "ok"), (False, 0o640, "error"), (False, 0o604, "error"),
     (True, 0o700, "ok"), (True, 0o750, "error")],
)  # fmt: skip
def test_secrets_are_for_their_owner_alone(tmp_path: Path, *, folder: bool, mode: int, level: str) -> None:
    path = tmp_path / "my secrets"
    if folder:
        path.mkdir()
    else:
        path.write_text("KEY=value")
    path.chmod(mode)
    [finding] = check_private([path])
    assert finding.level == level
    if level == "error":
        assert finding.mend == f"chmod {'700' if folder else '600'} '{path}'"


def test_a_file_that_is_not_written_yet_is_no_error(tmp_path: Path) -> None:
    [finding] = check_private([tmp_path / ".env"])
    assert finding.level == "note"


@pytest.mark.parametrize(("state", "level"), [(0, "ok"), (1, "ok"), (5, "warning"), (None, "note")])
def test_the_kernel_says_whether_its_clock_is_synchronised(state: int | None, level: str) -> None:
    assert check_clock_synchronised(lambda: state).level == level


def test_this_kernel_can_be_asked() -> None:
    assert clock_state() in (None, 0, 1, 2, 3, 4, 5)
