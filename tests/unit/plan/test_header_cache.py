"""Headers that are kept: found again as they were, never for another version or size of the file."""

from dataclasses import replace
from pathlib import Path

import pytest

from corral.plan.header_cache import HeaderCache, Version
from support.plan_farms import small_header

URL = "https://models.test/m.gguf"


@pytest.fixture
def cache(tmp_path: Path) -> HeaderCache:
    return HeaderCache(tmp_path / "headers")


@pytest.fixture
def version(cache: HeaderCache) -> Version:
    version = Version('"v1"', small_header().file_bytes)
    cache.keep(URL, version, small_header())
    return version


def test_a_header_comes_back_as_it_was(cache: HeaderCache, version: Version) -> None:
    for asked in (version, None):
        header = cache.find(URL, asked)
        assert header is not None
        assert replace(header, source=small_header().source) == small_header()
        assert {type(value) for value in header.metadata.values()} == {
            type(value) for value in small_header().metadata.values()
        }


def test_another_version_size_or_address_is_not_found(cache: HeaderCache, version: Version) -> None:
    assert version.size is not None
    for other in (
        replace(version, validator='"v2"'), replace(version, size=version.size + 1), replace(version, size=None),
        replace(version, validator=None),
    ):  # fmt: skip
        assert cache.find(URL, other) is None
    assert cache.find(f"{URL}?other", version) is None


def test_a_file_that_changed_while_it_was_read_is_not_kept(cache: HeaderCache) -> None:
    cache.keep(URL, Version('"v1"', small_header().file_bytes + 1), small_header())
    assert cache.find(URL, None) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", b'{"version": 2}'])
def test_a_damaged_file_is_as_good_as_none(cache: HeaderCache, version: Version, damage: bytes) -> None:
    (file,) = cache.folder.iterdir()
    file.write_bytes(damage)
    assert cache.find(URL, version) is None
    cache.keep(URL, version, small_header())
    assert cache.find(URL, version) is not None


def test_a_folder_that_cannot_be_written_to_is_no_fault(tmp_path: Path, version: Version) -> None:
    (tmp_path / "file").touch()
    HeaderCache(tmp_path / "file" / "headers").keep(URL, version, small_header())


def test_headers_are_for_this_user_alone(cache: HeaderCache, version: Version) -> None:
    (file,) = cache.folder.iterdir()
    assert (cache.folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
