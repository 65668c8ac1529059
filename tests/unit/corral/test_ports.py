import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from corral import ports
from corral.errors import CorralError
from support.ports import free_port


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_a_free_preferred_port_is_taken_without_a_word() -> None:
    port = free_port()
    assert ports.choose([("gate", port)], {}) == ({"gate": port}, [])


def test_a_taken_port_gives_the_next_free_one_and_names_its_holder(taken_port: int) -> None:
    chosen, notes = ports.choose([("gate", taken_port)], {})
    assert taken_port < chosen["gate"] < taken_port + 200
    assert len(notes) == 1
    assert f"port {taken_port} is taken by" in notes[0]
    assert f"(pid {os.getpid()})" in notes[0]


def test_two_parts_never_get_one_port() -> None:
    port = free_port()
    chosen, notes = ports.choose([("a", port), ("b", port)], {})
    assert chosen["a"] == port
    assert chosen["b"] != port
    assert notes == []  # b's port is not taken by a stranger


def test_the_port_of_the_last_start_is_kept() -> None:
    last = free_port()
    assert ports.choose([("chat-1", free_port())], {"chat-1": last})[0] == {"chat-1": last}


@pytest.mark.parametrize("port", [0, -5, 70000])
def test_a_remembered_port_that_is_none_is_left_out(port: int) -> None:
    preferred = free_port()
    assert ports.choose([("a", preferred)], {"a": port})[0] == {"a": preferred}


def test_no_free_port_at_all_is_an_error_with_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    with pytest.raises(CorralError, match="no free port for gate from 4000 to 4199"):
        ports.choose([("gate", 4000)], {})


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": "x"}', '{"a": null}'])
def test_a_broken_ports_file_is_as_none(tmp_path, content: str) -> None:
    file = tmp_path / "ports.json"
    file.write_text(content)
    assert ports.remembered(file) == {}


def test_the_ports_file_is_read(tmp_path) -> None:
    file = tmp_path / "ports.json"
    file.write_text(json.dumps({"litellm": 4001}))
    assert ports.remembered(file) == {"litellm": 4001}
