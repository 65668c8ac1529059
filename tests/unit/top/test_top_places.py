"""Whom `corral top` asks, and which key it takes along."""

from pathlib import Path

import pytest

from corral.errors import CorralError
from corral.paths import StateDir
from corral.top.places import find
from support.farm import CHECKOUT


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    file = tmp_path / "corral.yaml"
    file.write_text((CHECKOUT / "farms" / "two-hosts.yaml").read_text())
    return file


def test_a_farm_of_hosts_is_asked_where_its_file_says(hosts: Path, tmp_path: Path) -> None:
    (tmp_path / "litellm").mkdir()
    (tmp_path / "litellm" / ".env").write_text("GPU_SERVER_KEY=of-the-hosts\nLITELLM_MASTER_KEY=sk-master\n")
    own = StateDir(tmp_path / ".corral")
    own.create()
    own.secrets_file.write_text("GPU_SERVER_KEY=of-this-machines-own-farm\n")
    places = find(own, hosts, {})
    assert places.servers == {
        "qwen-1": "http://192.168.1.20:8080", "qwen-2": "http://192.168.1.20:8081",
        "nomic-embed-1": "http://192.168.1.20:8090",
    }  # fmt: skip
    assert places.gate == "http://192.168.1.10:4000"
    assert (places.server_key, places.gate_key) == ("of-the-hosts", "sk-master")
    assert "of-the-hosts" not in repr(places)


def test_the_environment_comes_first(hosts: Path, tmp_path: Path) -> None:
    variables = {"GPU_SERVER_KEY": "given", "GATE_METRICS_KEY": "sk-metrics", "LITELLM_MASTER_KEY": "sk-master"}
    places = find(StateDir(tmp_path / ".corral"), hosts, variables)
    assert (places.server_key, places.gate_key) == ("given", "sk-metrics")


def test_a_farm_that_does_not_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorralError, match="not running, and there is nothing to show; start it: make up"):
        find(StateDir(tmp_path), CHECKOUT / "farms" / "laptop.yaml", {})
