"""DATABASE_URL as LiteLLM's users write it, for Prisma, is understood, and its password never shows."""

import pytest

from litellm_embedded.database_url import DatabaseUrl
from litellm_embedded.errors import EmbeddedError


@pytest.mark.parametrize(
    ("given", "for_libpq"),
    [
        ("postgresql://u:p@h:5432/db", "postgresql://u:p@h:5432/db"),
        ("postgres://u:p@h/db", "postgres://u:p@h/db"),
        ("postgresql://u:p@h:1/db?connection_limit=10&pool_timeout=60&schema=public", "postgresql://u:p@h:1/db"),
        ("postgresql://u:p@h/db?sslmode=require&pgbouncer=true", "postgresql://u:p@h/db?sslmode=require"),
        ("postgresql://u:p@h/db?options=-c%20timezone%3DUTC", "postgresql://u:p@h/db?options=-c%20timezone%3DUTC"),
        ("postgresql://u:p%40%2Fw@[::1]:5432/my%20db", "postgresql://u:p%40%2Fw@[::1]:5432/my%20db"),
    ],
)
def test_prismas_parameters_are_left_out_and_the_rest_is_kept(given: str, for_libpq: str) -> None:
    assert DatabaseUrl.parse(given).for_libpq() == for_libpq


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("mysql://u:secret@h/db", "mysql"),
        ("postgresql:///db", "no host"),
        ("postgresql://u:secret@h", "no database"),
        ("postgresql://u:secret@h:port/db", "cannot be read"),
        ("postgresql://u:secret@h/db?schema=litellm", "schema litellm"),
        ("", "no PostgreSQL URL"),
    ],
)
def test_what_is_wrong_is_told_without_the_password(given: str, told: str) -> None:
    with pytest.raises(EmbeddedError, match=told) as caught:
        DatabaseUrl.parse(given)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_its_text_form_has_no_user_and_no_password() -> None:
    assert (
        str(DatabaseUrl.parse("postgresql://me:secret@127.0.0.1:5432/litellm")) == "DatabaseUrl(127.0.0.1:5432/litellm)"
    )


def test_another_database_of_the_same_server() -> None:
    url = DatabaseUrl.parse("postgresql://u:p@h:1/litellm?sslmode=disable")
    assert url.of_database("postgres").for_libpq() == "postgresql://u:p@h:1/postgres?sslmode=disable"
