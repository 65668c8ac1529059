"""LiteLLM's migrations on a real PostgreSQL: fresh, again, at once, failing, interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psycopg
import pytest

from litellm_embedded.database_url import DatabaseUrl
from litellm_embedded.errors import EmbeddedError
from litellm_embedded.migrations import (
    Outcome,
    installed_migrations,
    migrate,
    prepare_database,
    read_migrations,
    wait_for_database,
)
from support.ports import free_port
from support.postgres import Postgres, running_postgres
from support.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with running_postgres(tmp_path_factory.mktemp("migrations")) as postgres:
        yield postgres


@pytest.fixture
def url(server: Postgres, request: pytest.FixtureRequest) -> DatabaseUrl:
    """A database of the test's own, not yet created."""
    return DatabaseUrl.parse(server.url + "?connection_limit=5").of_database(request.node.name[:60])


def scripts(directory: Path, **migrations: str) -> Path:
    """Write a folder of migrations, as `litellm_proxy_extras` has them."""
    for name, text in migrations.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / name / "migration.sql").write_text(text, encoding="utf-8")
    return directory


def query(url: DatabaseUrl, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url.for_libpq(), autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def execute(url: DatabaseUrl, statement: str) -> None:
    with psycopg.connect(url.for_libpq(), autocommit=True) as connection:
        connection.execute(statement.encode())


def ledger(url: DatabaseUrl) -> list[tuple[object, ...]]:
    return query(
        url,
        "SELECT migration_name, finished_at IS NOT NULL, rolled_back_at IS NOT NULL, logs FROM _prisma_migrations "
        "ORDER BY migration_name, started_at",
    )


def test_a_missing_database_is_created_and_gets_every_migration_of_the_installed_litellm(url: DatabaseUrl) -> None:
    said: list[str] = []
    prepare_database(url, 30, said.append)
    known = read_migrations(installed_migrations())
    assert [row[:3] for row in ledger(url)] == [(migration.name, True, False) for migration in known]
    assert said[0].startswith(f"applied {len(known)} of {len(known)} migrations")
    for table in ("LiteLLM_VerificationToken", "LiteLLM_SpendLogs", "LiteLLM_BudgetTable"):
        assert query(url, f'SELECT count(*) FROM "{table}"') == [(0,)]  # noqa: S608 - names from above

    begun = time.monotonic()
    outcome = migrate(url, installed_migrations())
    assert outcome == Outcome((), len(known), ())
    assert time.monotonic() - begun < 2, "a database that is up to date must not hold up a start"
    prepare_database(url, 30, said.append)
    assert said[1].endswith(f"is up to date ({len(known)} migrations)")


def test_of_two_at_once_one_waits_and_each_migration_runs_once(url: DatabaseUrl, tmp_path: Path) -> None:
    wait_for_database(url, 30)
    directory = scripts(
        tmp_path,
        **{f"2025{n:04d}_part": f"SELECT pg_sleep(0.02); CREATE TABLE part_{n} (id int)" for n in range(20)},
    )
    outcomes: list[Outcome] = []
    threads = [Thread(target=lambda: outcomes.append(migrate(url, directory))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(len(outcome.applied) for outcome in outcomes) == [0, 0, 20]
    assert len(ledger(url)) == 20


def test_a_failed_migration_is_named_recorded_and_tried_again(url: DatabaseUrl, tmp_path: Path) -> None:
    wait_for_database(url, 30)
    directory = scripts(
        tmp_path,
        a_good="CREATE TABLE a (id int)",
        b_bad="CREATE TABLE half (id int); INSERT INTO nowhere VALUES (1)",
        c_never="CREATE TABLE c (id int)",
    )
    for _ in range(2):  # the second run must say the same, not stumble over the record of the first
        with pytest.raises(EmbeddedError, match=r"b_bad failed.*nowhere.* does not exist"):
            migrate(url, directory)
    assert query(url, "SELECT to_regclass('half') IS NULL, to_regclass('c') IS NULL") == [(True, True)]
    rows = ledger(url)
    assert [row[:3] for row in rows] == [("a_good", True, False), ("b_bad", False, True), ("b_bad", False, False)]
    assert "nowhere" in str(rows[2][3])

    execute(url, "CREATE TABLE nowhere (id int)")
    assert migrate(url, directory).applied == ("b_bad", "c_never")
    assert [row[:3] for row in ledger(url) if row[1]] == [
        ("a_good", True, False),
        ("b_bad", True, False),
        ("c_never", True, False),
    ]


def test_a_failed_concurrent_index_is_tried_again(url: DatabaseUrl, tmp_path: Path) -> None:
    wait_for_database(url, 30)
    directory = scripts(
        tmp_path, a_index="-- outside a transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (id)"
    )
    with pytest.raises(EmbeddedError, match="a_index failed"):
        migrate(url, directory)
    execute(url, "CREATE TABLE t (id int)")
    assert migrate(url, directory).applied == ("a_index",)
    assert query(url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") == [(True,)]


def test_a_killed_migration_leaves_nothing_and_does_not_hold_up_the_next(url: DatabaseUrl, tmp_path: Path) -> None:
    wait_for_database(url, 30)
    directory = scripts(tmp_path, a_slow="CREATE TABLE half (id int); SELECT pg_sleep(250); CREATE TABLE rest (id int)")
    program = (
        "import sys; from pathlib import Path; from litellm_embedded.database_url import DatabaseUrl;"
        "from litellm_embedded.migrations import migrate; migrate(DatabaseUrl.parse(sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, url.for_libpq(), str(directory)])
    try:
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        wait_until(lambda: query(url, sleeping), 30, "the migration to be under way")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    scripts(directory, a_slow="CREATE TABLE half (id int)")
    begun = time.monotonic()
    assert migrate(url, directory).applied == ("a_slow",)
    assert time.monotonic() - begun < 60
    assert [row[:3] for row in ledger(url)] == [("a_slow", True, False)]


def test_a_database_of_a_newer_litellm_and_a_changed_script_are_said(url: DatabaseUrl, tmp_path: Path) -> None:
    wait_for_database(url, 30)
    migrate(url, scripts(tmp_path / "new", a="SELECT 1", z_newer="SELECT 1"))
    outcome = migrate(url, scripts(tmp_path / "old", a="SELECT 2"))
    assert outcome.applied == ()
    assert any("differs" in warning for warning in outcome.warnings)
    assert any("z_newer" in warning for warning in outcome.warnings)


def run_command(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "litellm_embedded", "migrate", *options],
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_no_postgresql_within_the_deadline_is_one_line_with_its_address() -> None:
    port = free_port()
    result = run_command(f"postgresql://u:secret@127.0.0.1:{port}/litellm", "--timeout", "0.3")
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "Connection refused" in result.stderr
    assert "secret" not in result.stderr


def test_a_wrong_password_is_told_at_once(server: Postgres) -> None:
    result = run_command(f"postgresql://litellm:wrong@127.0.0.1:{server.port}/litellm", "--timeout", "50")
    assert result.returncode == 1
    assert "password" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_it_waits_for_a_server_that_starts_late(tmp_path: Path) -> None:
    with running_postgres(tmp_path) as late:
        late.stop()
        errors: list[Exception] = []

        def wait() -> None:
            try:
                wait_for_database(DatabaseUrl.parse(late.url), 60)
            except Exception as error:
                errors.append(error)

        waiting = Thread(target=wait)
        waiting.start()
        late.start()
        waiting.join(60)
        assert not waiting.is_alive()
        assert errors == []
