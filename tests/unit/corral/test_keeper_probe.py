"""Who answers on a part's port, and whether it serves."""

import asyncio
import os
import socket
import subprocess
import sys
import threading

import pytest

from corral.keeper import probe as keeper_probe
from corral.keeper.probe import listener_is
from corral.parts import Part


def test_a_part_listens_itself_or_by_a_child_and_a_stranger_is_told_apart() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listener_is(os.getpid(), port)
        assert listener_is(os.getppid(), port) or os.getppid() == 0
        assert not listener_is(stranger.pid, port)
    assert not listener_is(os.getpid(), port)
    stranger.communicate(b"\n", timeout=10)
    assert not listener_is(stranger.pid, port)


def answered(port: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(keeper_probe, "TIMEOUT_S", 0.5)
    part = Part(name="postgres", kind="service", argv=("postgres",), environment={}, port=port)
    return asyncio.run(keeper_probe.probe(part)).ready


@pytest.mark.parametrize("answer", [b"N", b"S"])
def test_a_database_that_answers_the_first_question_serves(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                asked.append(client.recv(64))
                client.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        assert answered(server.getsockname()[1], monkeypatch)
        serving.join(10)
    assert asked == [bytes.fromhex("0000000804d2162f")]  # SSLRequest, as PostgreSQL's documentation has it


def test_a_database_that_hangs_does_not_serve_though_its_port_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel accepts, nobody answers
        assert not answered(server.getsockname()[1], monkeypatch)


def test_a_port_without_a_listener_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not answered(port, monkeypatch)
