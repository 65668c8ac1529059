from dataclasses import fields
from pathlib import Path

import pytest

from corral import secrets
from corral.errors import CorralError
from corral.secrets import Secrets


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    first = secrets.load_or_create(file, database_exists=False)
    assert secrets.load_or_create(file, database_exists=True) == first
    assert file.stat().st_mode & 0o777 == 0o600


def test_two_farms_share_no_secret(tmp_path: Path) -> None:
    one = secrets.load_or_create(tmp_path / "a", database_exists=False)
    two = secrets.load_or_create(tmp_path / "b", database_exists=False)
    names = {field.name for field in fields(Secrets)} - {"ui_username"}
    assert all(getattr(one, name) != getattr(two, name) and len(getattr(one, name)) >= 12 for name in names)


def test_loose_permissions_are_tightened(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    secrets.load_or_create(file, database_exists=False)
    file.chmod(0o644)
    secrets.load_or_create(file, database_exists=True)
    assert file.stat().st_mode & 0o777 == 0o600


def test_lost_secrets_are_not_replaced_while_their_database_is_there(tmp_path: Path) -> None:
    with pytest.raises(CorralError, match="is gone, but the database") as error:
        secrets.load_or_create(tmp_path / ".env", database_exists=True)
    assert "make reset" in error.value.mend
    assert not (tmp_path / ".env").exists()


def test_a_file_that_lacks_one_says_which(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    secrets.load_or_create(file, database_exists=False)
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "SALT" not in line))
    with pytest.raises(CorralError, match="lacks LITELLM_SALT_KEY"):
        secrets.load_or_create(file, database_exists=True)


def test_a_secret_never_shows_in_a_traceback(tmp_path: Path) -> None:
    made = secrets.load_or_create(tmp_path / ".env", database_exists=False)
    assert made.postgres_password not in repr(made)
