"""The engine as a process: what it refuses at the start, how it ends, what it never logs."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.engine import ENGINE, SCHEMA
from support.ports import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

PASSWORD = "a-secret-of-the-database"
START_TIMEOUT_S = 30


def environment(**more: str) -> dict[str, str]:
    """Of an engine whose database nobody runs: it must start all the same."""
    url = f"postgresql://litellm:{PASSWORD}@127.0.0.1:{free_port()}/litellm"
    return {"PATH": os.environ["PATH"], "PRISMA_DML_PATH": str(SCHEMA), "DATABASE_URL": url, **more}


def run(*arguments: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ENGINE, *arguments], env=env, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )


class Running:
    """An engine that answers."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, log: Path) -> None:
        self.process = process
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.log = log

    def status(self) -> bool:
        return bool(self.http.get("/status").json() == {"status": "ok"})


@contextmanager
def running_engine(directory: Path, **more: str) -> Iterator[Running]:
    port = free_port()
    log = directory / "engine.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [ENGINE, "-p", str(port)], env=environment(**more), stderr=output, stdout=output, text=True
        )
    engine = Running(process, port, log)
    try:
        wait_until(engine.status, START_TIMEOUT_S, "the engine to answer")
        yield engine
    finally:
        engine.http.close()
        process.kill()
        process.wait(10)


def test_the_version_is_printed_as_the_native_engine_does() -> None:
    done = run("--version", env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stdout) == (0, "query-engine 393aa359c9ad4a4bb28630fb5613f9c281cde053\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DATABASE_URL": ""}, "no DATABASE_URL: set it to postgresql://user:password@host:port/database"),
        ({"DATABASE_URL": f"postgresql://litellm:{PASSWORD}#@db/x"}, "DATABASE_URL is not a URL"),
        ({"DATABASE_URL": f"mysql://litellm:{PASSWORD}@db/x"}, "DATABASE_URL starts with mysql://"),
        ({"PRISMA_DML_PATH": ""}, "no datamodel: set PRISMA_DML_PATH"),
        ({"PRISMA_DML_PATH": "nowhere.prisma"}, "the datamodel nowhere.prisma cannot be read (ENOENT)"),
    ],
)
def test_what_is_missing_is_one_line_with_the_mend(changes: dict[str, str], message: str) -> None:
    done = run(env=environment(**changes))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert PASSWORD not in done.stderr


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        done = run("-p", str(port), env=environment())
    assert done.returncode == 3
    assert done.stderr == (
        f"query-engine: 127.0.0.1:{port} is taken: stop what listens there, or give another --port\n"
    )


def test_a_node_that_is_too_old_is_named(tmp_path: Path) -> None:
    # The real node, told that it is an old one
    pretend = tmp_path / "old.js"
    pretend.write_text("Object.defineProperty(process, 'versions', {value: {...process.versions, node: '16.20.2'}});")
    done = subprocess.run(
        ["node", "--require", pretend, ENGINE],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
    )
    assert (done.returncode, done.stderr) == (
        4,
        "query-engine: Node 16.20.2 is too old: install Node 18 or newer\n",
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_cleanly(tmp_path: Path, how: signal.Signals) -> None:
    with running_engine(tmp_path) as engine:
        engine.process.send_signal(how)
        assert engine.process.wait(2) == 0
        assert engine.log.read_text() == ""


def test_it_goes_when_its_parent_is_killed(tmp_path: Path) -> None:
    port = free_port()
    start = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", start, str(ENGINE), "-p", str(port)]
    parent = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        pid = int(parent.stdout.readline())
        try:
            url = f"http://127.0.0.1:{port}/status"
            wait_until(lambda: httpx.get(url, timeout=5).status_code == 200, START_TIMEOUT_S, "the engine to answer")
            parent.kill()
            parent.wait(10)
            wait_until(lambda: not is_alive(pid), 2, "the engine to notice that its parent is gone")
        finally:
            parent.kill()
            parent.wait(10)
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """A process that ended but whose new parent has not asked for its status does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_password_is_never_logged_or_answered(tmp_path: Path) -> None:
    with running_engine(tmp_path) as engine:
        query = "query { result: findManyLiteLLM_CronJob { pod_id } }"
        answer = engine.http.post("/", json={"query": query, "variables": {}}).text
        engine.http.post("/", content=b"{")
        assert "Can't reach database server" in answer
        engine.process.terminate()
        engine.process.wait(5)
        assert PASSWORD not in answer + engine.log.read_text()


def test_a_large_body_is_served_and_one_over_64_mib_refused(tmp_path: Path) -> None:
    with running_engine(tmp_path) as engine:
        text = "x" * (60 * 1024 * 1024)
        taken = engine.http.post("/", json={"query": "{ nope(a: " + '"' + text + '")}', "variables": {}})
        assert taken.json()["errors"][0]["error"].startswith("unknown operation nope")
        refused = engine.http.post("/", content=b"x" * (64 * 1024 * 1024 + 1))
        assert (refused.status_code, engine.status()) == (413, True)


def test_nonsense_is_answered_and_survived(tmp_path: Path) -> None:
    with running_engine(tmp_path) as engine:
        for body in (b"", b"{", b"[]", b"null", b'{"query": 1}', b'{"query": "{"}', b'{"batch": [{}]}', b"\xff\xfe"):
            answer = engine.http.post("/", content=body)
            assert answer.json()["errors"][0]["user_facing_error"]["error_code"] == "P2009", body
        assert engine.status()


def test_a_transaction_that_never_was_is_an_error(tmp_path: Path) -> None:
    with running_engine(tmp_path) as engine:
        query = {"query": "{ result: findManyLiteLLM_CronJob { pod_id } }", "variables": {}}
        for answer in (
            engine.http.post("/transaction/none/commit"),
            engine.http.post("/transaction/none/rollback"),
            engine.http.post("/", json=query, headers={"x-transaction-id": "none"}),
        ):
            assert answer.json()["errors"][0]["user_facing_error"]["error_code"] == "P2028"
        assert engine.status()
