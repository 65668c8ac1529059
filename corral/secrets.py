"""The farm's secrets: made once, kept in `.corral/.env` with mode 600, given to parts by environment."""

import secrets
from dataclasses import dataclass, fields
from pathlib import Path

from corral.envfile import parse_env
from corral.errors import CorralError
from corral.paths import write_private


@dataclass(frozen=True)
class Secrets:
    """All secrets of a one-machine farm."""

    litellm_master_key: str
    litellm_salt_key: str
    postgres_password: str
    gpu_server_key: str
    ui_username: str
    ui_password: str

    def __repr__(self) -> str:
        """Never show a secret in a traceback or a log."""
        return "Secrets(...)"


def _fresh() -> Secrets:
    return Secrets(
        litellm_master_key=f"sk-{secrets.token_urlsafe(32)}",
        litellm_salt_key=f"sk-{secrets.token_urlsafe(32)}",
        postgres_password=secrets.token_urlsafe(24),
        gpu_server_key=secrets.token_urlsafe(32),
        ui_username="admin",
        ui_password=secrets.token_urlsafe(12),
    )


def load_or_create(path: Path, *, database_exists: bool) -> Secrets:
    """Return the secrets in `path`; make them if there are none yet.

    Args:
        path: the `.env` file; written with mode 600.
        database_exists: a database that was encrypted with a salt is there, so that lost secrets
            must not be replaced by fresh ones.

    Raises:
        CorralError: the file is incomplete, or gone while the database is there.
    """
    if not path.exists():
        if database_exists:
            raise CorralError(
                f"{path} is gone, but the database that it belongs to is there",
                "restore the file from your backup, or run `make reset` to delete the data and begin anew",
            )
        made = _fresh()
        lines = [f"{field.name.upper()}={getattr(made, field.name)}" for field in fields(made)]
        write_private(
            path, "# Made by `make up`. Without this file the database cannot be read.\n" + "\n".join(lines) + "\n"
        )
        return made
    path.chmod(0o600)
    values = {name.lower(): value for name, value in parse_env(path.read_text(encoding="utf-8")).items()}
    missing = [field.name.upper() for field in fields(Secrets) if not values.get(field.name)]
    if missing:
        raise CorralError(
            f"{path} lacks {', '.join(missing)}", "restore the file from your backup, or run `make reset`"
        )
    return Secrets(**{field.name: values[field.name] for field in fields(Secrets)})
