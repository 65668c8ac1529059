"""The logs of a farm of containers, asked of a `docker` that knows a few."""

from pathlib import Path

import pytest

from corral import container_logs
from corral.errors import CorralError
from corral.farm import FarmFile, load_farm
from support.farm import LAPTOP

FARM = """
name: yard
hosts: {box: {gpus: [{memory_mib: 8192}]}}
models: {m: {source: {hub: o/r, file: m.gguf}}}
servers: [{model: m, host: box, gpus: [0], ports: 8080}]
"""
DOCKER = """#!/bin/sh
case "$1 $*" in
ps*project=yard-gate) echo gate-id; echo database-id ;;
ps*project=yard-box) echo server-id ;;
inspect*) shift; printf '['; comma=
    for id in "$@"; do
        case $id in gate-id) name=litellm ;; database-id) name=postgres ;; server-id) name=m-1 ;; esac
        printf '%s{"Id":"%s","RestartCount":0,"State":{"Status":"running"},' "$comma" "$id"
        printf '"Config":{"Labels":{"com.docker.compose.service":"%s"}}}' "$name"; comma=,
    done; echo ']' ;;
logs*server-id)
    [ -z "$BROKEN" ] || { echo 'no such container' >&2; exit 1; }
    echo 'said by m-1'; echo 'and warned' >&2 ;;
logs*gate-id) echo 'said by the gate' ;;
*) echo "not expected: $*" >&2; exit 9 ;;
esac
"""


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FarmFile:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:/usr/bin:/bin")
    file = tmp_path / "corral.yaml"
    file.write_text(FARM)
    return load_farm(file).value


def test_gate_and_servers_are_read_and_nothing_else(farm: FarmFile) -> None:
    assert container_logs.of_farm(farm) == {
        "litellm": ["said by the gate"],
        "m-1": ["said by m-1", "and warned"],
    }


def test_a_farm_of_processes_has_its_logs_here() -> None:
    assert container_logs.of_file(LAPTOP) is None


def test_a_log_that_an_engine_does_not_give_is_said_with_its_words(
    farm: FarmFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(CorralError, match=r"of box gives no log of m-1: no such container; look at that host"):
        container_logs.of_farm(farm)


def test_a_farm_that_was_never_started_is_said(tmp_path: Path, farm: FarmFile) -> None:
    (tmp_path / "bin" / "docker").write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(CorralError, match=r"no container of yard is there .*start it"):
        container_logs.of_farm(farm)
