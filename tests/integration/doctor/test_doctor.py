"""The doctor against real sockets: ports that are held, servers that answer, stall, lie and have another time."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from corral.doctor import network
from corral.doctor.cli import doctor
from corral.doctor.findings import Wanted, WantedGpu
from corral.doctor.host import check_ports
from corral.doctor.network import Contact, check_skew, contact
from support.nvml_cards import Card, FakeNvml
from support.ports import free_port


@contextmanager
def health_server(status: int = 200, body: str = "{}", *, ahead_s: float = 0, stalls: bool = False) -> Iterator[str]:
    """Run a server whose /health answers so, with a clock that is ahead; give its URL."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if stalls:
                ended.wait(30)
            self.send_response(status if self.path.startswith("/health") else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate((timestamp or time.time()) + ahead_s, usegmt=True)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # the doctor hangs up on one that stalls
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        ended.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


async def ask(*servers: tuple[str, str]) -> list[Contact]:
    return await contact(servers, None)


async def test_a_ready_server_is_well_also_by_its_openai_address() -> None:
    with health_server() as url:
        for address in (url, url + "/", url + "/v1"):
            [answer] = await ask(("chat-1", address))
            assert answer.finding.level == "ok"
            assert answer.finding.what.startswith(f"chat-1: {address} is ready (")


@pytest.mark.parametrize(
    ("status", "body", "level", "said"),
    [
        (503, '{"state": "starting"}', "warning", "cannot serve now: it is starting"),
        (503, "<html>", "warning", "cannot serve now"),
        (404, "", "error", "answers 404"),
        (401, "", "error", "answers 401"),
    ],
)
async def test_a_server_that_cannot_serve_says_why(status: int, body: str, level: str, said: str) -> None:
    with health_server(status, body) as url:
        [answer] = await ask(("chat-1", url))
    assert answer.finding.level == level
    assert said in answer.finding.what
    assert answer.finding.mend


async def test_nothing_there_nonsense_and_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "DEADLINE_S", 0.5)
    with health_server(stalls=True) as stalled, socket.create_server(("127.0.0.1", 0)) as mute:
        gone = f"http://127.0.0.1:{free_port()}"
        silent = f"http://127.0.0.1:{mute.getsockname()[1]}"
        answers = await ask(("a", gone), ("b", stalled), ("c", silent), ("d", "nonsense"))
    said = [answer.finding.what for answer in answers]
    assert [answer.finding.level for answer in answers] == ["error"] * 4
    assert "no connection to" in said[0]
    assert "does not answer within" in said[1]
    assert "does not answer within" in said[2]
    assert "is no address" in said[3]


async def test_the_gate_is_asked_for_its_readiness() -> None:
    with health_server() as url:
        [answer] = await contact((), url)
    assert (answer.finding.level, answer.finding.what.split(":")[0]) == ("ok", "gate")


@pytest.mark.parametrize(("ahead_s", "level", "said"), [
    (0, "ok", "within 1 s"), (60, "warning", "s ahead of this machine"), (-3600, "warning", "s behind this machine"),
])  # fmt: skip
async def test_a_clock_that_differs_is_told(ahead_s: float, level: str, said: str) -> None:
    with health_server(ahead_s=ahead_s) as url:
        finding = check_skew(await ask(("chat-1", url)))
    assert finding.level == level
    assert said in finding.what


async def test_without_an_answer_clocks_are_not_compared() -> None:
    assert check_skew(await ask(("a", f"http://127.0.0.1:{free_port()}"))).level == "note"


async def test_one_wrong_clock_of_two_is_named() -> None:
    with health_server() as right, health_server(ahead_s=60) as wrong:
        finding = check_skew(await ask(("a", right), ("b", wrong)))
    assert wrong in finding.what
    assert "1 of 2 servers differ" in finding.what


def test_a_port_is_free_held_or_held_by_the_farm_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        [taken] = check_ports([("chat-1", port)], answering=())
        [ours] = check_ports([("chat-1", port)], answering={port})
    [free] = check_ports([("chat-1", port)], answering=())
    assert (taken.level, ours.level, free.level) == ("error", "ok", "ok")
    assert f"pid {os.getpid()}" in taken.what
    assert "another port" in taken.mend


def test_a_port_that_this_user_may_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.doctor.host.may_listen", lambda _port: False)  # root may listen anywhere
    [finding] = check_ports([("gate", 80)], answering=())
    assert "is root's" in finding.what


def test_the_whole_examination_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = tmp_path / ".env"
    env.write_text("KEY=value")
    env.chmod(0o644)
    with health_server() as url:
        port = int(url.rpartition(":")[2])
        wanted = Wanted(
            servers=(("chat-1", url),),
            ports=(("chat-1", port),),
            gpus=(WantedGpu("GPU-1", 8192, 90),),
            models_dir=tmp_path,
            private_files=(env,),
        )
        nvml = FakeNvml([Card()])
        assert doctor(wanted, as_json=True, nvml=nvml) == 1
        document = json.loads(capsys.readouterr().out)
        errors = [finding for finding in document["findings"] if finding["level"] == "error"]
        assert (document["worst"], [error["mend"] for error in errors]) == ("error", [f"chmod 600 {env}"])
        assert any("answers as chat-1" in finding["what"] for finding in document["findings"])
        env.chmod(0o600)
        assert doctor(wanted, nvml=nvml) == 0
    assert " error" not in capsys.readouterr().out


def test_the_command_runs_on_this_very_machine(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "corral.doctor.cli", "--models", str(tmp_path), "--private", str(tmp_path / "none")]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Python 3." in result.stdout
    wrong = subprocess.run([*argv, "--port", "chat=99999"], capture_output=True, text=True, timeout=60, check=False)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
