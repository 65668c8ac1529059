"""What LiteLLM is started with."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from litellm_embedded.errors import EmbeddedError
from litellm_embedded.install import ENGINE
from litellm_embedded.node import Node
from litellm_embedded.ports import check_port
from litellm_embedded.proxy import LAST_RESORTS, STUBS, proxy_command, proxy_environment

NODE = Node(Path("/opt/node/bin/node"), None)


def test_it_stays_off_the_network_whatever_the_caller_says() -> None:
    environment = proxy_environment({"LITELLM_LOCAL_MODEL_COST_MAP": "False"}, NODE)
    local = {name: value for name, value in environment.items() if name.startswith("LITELLM_LOCAL_")}
    assert len(local) == 5
    assert set(local.values()) == {"True"}
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "--telemetry False" in " ".join(proxy_command(Path("c.yaml"), "127.0.0.1", 4000))


def test_it_uses_our_engine_and_finds_our_prisma_and_node_before_any_other() -> None:
    environment = proxy_environment({"PATH": "/usr/bin", "PRISMA_QUERY_ENGINE_BINARY": "/another"}, NODE)
    assert environment["PRISMA_QUERY_ENGINE_BINARY"] == str(ENGINE)
    assert environment["PATH"].split(os.pathsep) == [str(STUBS), "/opt/node/bin", "/usr/bin", str(LAST_RESORTS)]


def test_what_the_caller_gives_is_kept() -> None:
    given = {"PYTHONPATH": "/hooks", "LITELLM_LOG": "DEBUG", "LITELLM_MASTER_KEY": "sk-x"}
    environment = proxy_environment({**given, "PYTHONDONTWRITEBYTECODE": "1"}, NODE)
    assert given.items() <= environment.items()
    assert "PYTHONDONTWRITEBYTECODE" not in environment


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["migrate", "deploy"], "No pending migrations to apply.\n"),
        (["--version"], ""),
        (["migrate", "diff"], ""),
        ([], ""),
    ],
)
def test_the_prisma_stub_says_that_nothing_is_left_to_do(arguments: list[str], output: str) -> None:
    result = subprocess.run([STUBS / "prisma", *arguments], capture_output=True, text=True, timeout=10, check=True)
    assert result.stdout == output


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port} on 127.0.0.1 is taken"):
            check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(EmbeddedError, match=r"192\.0\.2\.1"):
        check_port("192.0.2.1", 4000)


def test_a_machine_without_openssl_still_tells_prisma_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh Debian has none, and prisma-client-py cannot connect without it."""
    from prisma.binaries.platform import get_openssl

    monkeypatch.setenv("PATH", str(LAST_RESORTS))
    assert get_openssl() == "3.0.x"
