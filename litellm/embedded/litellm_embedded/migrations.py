"""Bring LiteLLM's database to the schema of the installed LiteLLM, keeping Prisma's own ledger.

The scripts come with `litellm_proxy_extras`. They are recorded in `_prisma_migrations` as `prisma migrate deploy`
records them, so the same database serves LiteLLM's official image, whose native Prisma goes on where this stopped.

One difference: here a script and its record are one transaction. A process killed in the middle leaves neither; a
script that fails leaves only the record of its failure (with the cause in `logs`) and is tried again by the next run,
because nothing of it stayed. Scripts that build an index CONCURRENTLY cannot be in a transaction; they hold one
repeatable statement each.
"""

import hashlib
import importlib.util
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import psycopg
from psycopg import sql

from litellm_embedded.database_url import DatabaseUrl
from litellm_embedded.errors import EmbeddedError, one_line

Connection: TypeAlias = psycopg.Connection[tuple[object, ...]]

_LOCK_KEY = 72707369  # the advisory lock that `prisma migrate` takes
_LOCK_TIMEOUT_S = 300
_STATEMENT_TIMEOUT_S = 600
_CONNECT_TIMEOUT_S = 5
_RETRY_INTERVAL_S = 0.1

_LEDGER = """
CREATE TABLE IF NOT EXISTS "_prisma_migrations" (
    id                  varchar(36) PRIMARY KEY NOT NULL,
    checksum            varchar(64) NOT NULL,
    finished_at         timestamptz,
    migration_name      varchar(255) NOT NULL,
    logs                text,
    rolled_back_at      timestamptz,
    started_at          timestamptz NOT NULL DEFAULT now(),
    applied_steps_count integer NOT NULL DEFAULT 0
)"""


@dataclass(frozen=True)
class Migration:
    """One script, named as its folder; the names sort in the order of application."""

    name: str
    script: bytes

    @property
    def checksum(self) -> str:
        """What Prisma records of the script."""
        return hashlib.sha256(self.script).hexdigest()

    @property
    def transactional(self) -> bool:
        """Whether PostgreSQL allows the script inside a transaction."""
        statements = re.sub(rb"--[^\n]*", b"", self.script)
        return re.search(rb"\bCONCURRENTLY\b", statements, re.IGNORECASE) is None


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Args:
        applied: Names of the migrations that this run applied, in order.
        known: How many migrations the installed LiteLLM has.
        warnings: Lines a person should see; none of them stops LiteLLM.
    """

    applied: tuple[str, ...]
    known: int
    warnings: tuple[str, ...]


def installed_migrations() -> Path:
    """Return the folder of the installed LiteLLM's migrations, without the 10 s that importing its package takes."""
    spec = importlib.util.find_spec("litellm_proxy_extras")
    if spec is None or spec.origin is None:
        raise EmbeddedError("the package litellm-proxy-extras is not installed", "run make setup")
    return Path(spec.origin).parent / "migrations"


def read_migrations(directory: Path) -> tuple[Migration, ...]:
    """Read every migration of a folder, in the order of application."""
    scripts = sorted(directory.glob("*/migration.sql"))
    if not scripts:
        raise EmbeddedError(f"no migrations in {directory}", "reinstall litellm-proxy-extras (make setup)")
    return tuple(Migration(script.parent.name, script.read_bytes()) for script in scripts)


def wait_for_database(url: DatabaseUrl, timeout_s: float) -> None:
    """Wait until PostgreSQL takes connections, and create the database if the server lacks it.

    Raises:
        EmbeddedError: after `timeout_s`, or at once where waiting does not help (a wrong password).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            psycopg.connect(url.for_libpq(), connect_timeout=_CONNECT_TIMEOUT_S).close()
        except psycopg.OperationalError as error:
            message = str(error)
            if f'database "{url.database}" does not exist' in message:
                _create_database(url)
                return
            if re.search(r"authentication failed|role .* does not exist|no pg_hba.conf entry", message):
                raise EmbeddedError(
                    f"PostgreSQL at {url.address} refuses the login: {_reason(message)}",
                    "use the password that its data directory was made with (POSTGRES_PASSWORD, DATABASE_URL)",
                ) from None
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"no PostgreSQL at {url.address} within {timeout_s:.0f} s: {_reason(message)}",
                    "start it, or mend DATABASE_URL",
                ) from None
            time.sleep(_RETRY_INTERVAL_S)
        else:
            return


def migrate(url: DatabaseUrl, directory: Path) -> Outcome:
    """Apply what the database lacks. Of two runs at once, one waits for the other.

    Raises:
        EmbeddedError: if a migration fails (named, with PostgreSQL's reason), or the lock is not to be had.
    """
    migrations = read_migrations(directory)
    try:
        with psycopg.connect(url.for_libpq(), autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S) as connection:
            connection.execute(sql.SQL("SET statement_timeout = {}").format(f"{_STATEMENT_TIMEOUT_S}s"))
            # A killed run must not keep the lock for as long as its statement would have taken.
            connection.execute("SET client_connection_check_interval = '1s'")
            connection.execute("SET client_min_messages = warning")
            with _migration_lock(connection):
                return _bring_up_to_date(connection, migrations)
    except psycopg.Error as error:
        raise EmbeddedError(
            f"the migration of {url.database} at {url.address} broke off: {_reason(str(error))}",
            "see PostgreSQL's log and run it again: what was not recorded was not done",
        ) from error


def prepare_database(url: DatabaseUrl, timeout_s: float, say: Callable[[str], None]) -> None:
    """Wait for the database, create it where it is missing, migrate it, and say in one line what was done."""
    wait_for_database(url, timeout_s)
    begun = time.monotonic()
    outcome = migrate(url, installed_migrations())
    for warning in outcome.warnings:
        say(f"warning: {warning}")
    if outcome.applied:
        say(f"applied {len(outcome.applied)} of {outcome.known} migrations in {time.monotonic() - begun:.1f} s")
    else:
        say(f"database {url.database} is up to date ({outcome.known} migrations)")


def _bring_up_to_date(connection: Connection, migrations: Sequence[Migration]) -> Outcome:
    connection.execute(_LEDGER)
    rows = connection.execute(
        "SELECT migration_name, checksum, finished_at IS NOT NULL "
        'FROM "_prisma_migrations" WHERE rolled_back_at IS NULL'
    ).fetchall()
    finished = {str(name): str(checksum) for name, checksum, done in rows if done}
    failed = {str(name) for name, _, done in rows if not done} - finished.keys()
    applied = []
    for migration in migrations:
        if migration.name in finished:
            continue
        if migration.name in failed:
            _set_aside_failure(connection, migration)
        _apply(connection, migration)
        applied.append(migration.name)
    return Outcome(tuple(applied), len(migrations), tuple(_warnings(migrations, finished)))


def _warnings(migrations: Sequence[Migration], finished: dict[str, str]) -> Iterator[str]:
    for migration in migrations:
        if finished.get(migration.name, migration.checksum) != migration.checksum:
            yield f"migration {migration.name} was applied from a script that differs from the installed one"
    newest = max(migration.name for migration in migrations)
    newer = sorted(name for name in finished if name > newest)
    if newer:
        yield f"the database was migrated by a newer LiteLLM ({newer[-1]}): update this one if something fails"


def _apply(connection: Connection, migration: Migration) -> None:
    try:
        if migration.transactional:
            with connection.transaction():
                _execute_and_record(connection, migration)
        else:
            _execute_and_record(connection, migration)
    except psycopg.Error as error:
        if not connection.broken:
            _record_failure(connection, migration, error)
        raise EmbeddedError(
            f"migration {migration.name} failed: {one_line(str(error))}",
            "mend the cause and run it again: nothing of this migration was kept",
        ) from error


def _execute_and_record(connection: Connection, migration: Migration) -> None:
    identity = str(uuid.uuid4())
    connection.execute(
        'INSERT INTO "_prisma_migrations" (id, checksum, migration_name, started_at) '
        "VALUES (%s, %s, %s, clock_timestamp())",
        (identity, migration.checksum, migration.name),
    )
    if migration.script.strip():
        connection.execute(migration.script)  # no parameters: psycopg sends all its statements at once
    connection.execute(
        'UPDATE "_prisma_migrations" SET finished_at = clock_timestamp(), applied_steps_count = 1 WHERE id = %s',
        (identity,),
    )


def _record_failure(connection: Connection, migration: Migration, error: psycopg.Error) -> None:
    _set_aside_failure(connection, migration)  # of a script outside a transaction, whose row stayed
    connection.execute(
        'INSERT INTO "_prisma_migrations" (id, checksum, migration_name, logs) VALUES (%s, %s, %s, %s)',
        (str(uuid.uuid4()), migration.checksum, migration.name, str(error)),
    )


def _set_aside_failure(connection: Connection, migration: Migration) -> None:
    connection.execute(
        'UPDATE "_prisma_migrations" SET rolled_back_at = now() '
        "WHERE migration_name = %s AND finished_at IS NULL AND rolled_back_at IS NULL",
        (migration.name,),
    )


@contextmanager
def _migration_lock(connection: Connection) -> Iterator[None]:
    connection.execute(sql.SQL("SET lock_timeout = {}").format(f"{_LOCK_TIMEOUT_S}s"))
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
    except psycopg.errors.LockNotAvailable:
        raise EmbeddedError(
            f"another migration has held the database for {_LOCK_TIMEOUT_S} s",
            "wait for it or end it, then run it again",
        ) from None
    connection.execute("SET lock_timeout = 0")
    yield  # the end of the session gives the lock back


def _create_database(url: DatabaseUrl) -> None:
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(url.database))
    try:
        with psycopg.connect(
            url.of_database("postgres").for_libpq(), autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S
        ) as connection:
            connection.execute(statement)
    except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        return  # another run was faster
    except psycopg.Error as error:
        raise EmbeddedError(
            f"the database {url.database} is missing at {url.address} and cannot be created: {_reason(str(error))}",
            "create it, or use a user that may",
        ) from None


def _reason(message: str) -> str:
    """Return the telling line of libpq's message, which also has hints and every address it tried."""
    lines = message.strip().splitlines() or ["no reason given"]
    telling = [line for line in lines if re.search(r"failed: |FATAL|ERROR", line)]
    return one_line((telling or lines)[-1])
