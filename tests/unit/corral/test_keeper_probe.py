"""Who answers on a part's port."""

import os
import socket
import subprocess
import sys

from corral.keeper.probe import listener_is


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
