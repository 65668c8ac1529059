"""What a load test is pointed at, and what is said of a wrong direction."""

import json
import os
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from corral.cli import app
from corral.errors import CorralError
from corral.farm import servers_of
from corral.farmstate import FarmState, PartState
from corral.loadtest import k6
from corral.loadtest.aim import farm_of
from corral.loadtest.killing import victims
from corral.loadtest.watch import watching
from corral.render.k6 import targets
from support.random_farms import example

TARGETS = Path(__file__).parents[3] / "farms" / "rendered" / "two-hosts" / "load-tests" / "targets.json"


def test_rendered_targets_are_taken_as_they_are() -> None:
    aim = farm_of(TARGETS, {"LITELLM_MASTER_KEY": "sk-master", "GPU_SERVER_KEY": "k"})
    assert aim.manager().base_url == "http://192.168.1.10:4000"
    assert aim.manager().master_key == "sk-master"
    assert aim.server_key == "k"
    assert aim.parts() is None


def test_without_a_master_key_no_key_is_made_and_the_mend_is_told() -> None:
    with pytest.raises(CorralError, match=r"LITELLM_MASTER_KEY is not set; .*API_KEY") as raised:
        farm_of(TARGETS, {}).manager()
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot be read"), ("{", "holds no targets"), ('{"gate": "x"}', "holds no targets")]
)
def test_a_file_that_is_none_is_told(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CorralError, match=said) as raised:
        farm_of(path, {})
    assert "corral render" in str(raised.value)
    assert raised.value.exit_code == 2


def test_an_unknown_script_is_told_with_those_there_are() -> None:
    result = CliRunner().invoke(app, ["load-test", "nonsense", "--targets", str(TARGETS)])
    assert isinstance(result.exception, CorralError)
    assert result.exception.exit_code == 2
    assert all(name in str(result.exception) for name in k6.names())


def test_list_tells_of_each_script_what_it_shows_and_what_to_do() -> None:
    said = CliRunner().invoke(app, ["load-test", "--list"]).stdout
    assert said.count("Shows:") == len(k6.names()) >= 8
    assert all(f"corral load-test {name}" in k6.header(name) for name in k6.names())


def test_the_only_server_of_a_model_is_spared() -> None:
    found = json.loads(TARGETS.read_text())
    assert [server["name"] for server in victims(found)] == ["qwen-1", "qwen-2"]


def test_objectives_come_from_the_farm_file() -> None:
    farm = example("two-hosts")
    model = farm.models["qwen"].model_copy(
        update={"objectives": farm.models["qwen"].objectives.model_copy(update={"ttft_p95_s": 2.5})}
    )
    farm = farm.model_copy(update={"models": {**farm.models, "qwen": model}})
    (qwen, nomic) = targets(farm, servers_of(farm), "http://gate")["models"]
    assert qwen["objectives"]["ttft_p95_s"] == 2.5
    assert nomic["objectives"] == {"ttft_p95_s": 5.0, "duration_p95_s": None, "error_share": 0.01}


def test_processes_are_watched_from_the_first_moment_to_the_last() -> None:
    me = PartState("me", "service", pid=os.getpid(), pid_created=psutil.Process().create_time())
    gone = PartState("gone", "service", pid=None)
    with watching(lambda: FarmState("http://127.0.0.1:1/v1", parts=[me, gone]), interval_s=60) as watched:
        assert list(watched.looks) == ["me"]
        kept = [os.dup(1) for _ in range(3)]
    for descriptor in kept:
        os.close(descriptor)
    first, last = watched.looks["me"]
    assert last.descriptors - first.descriptors == 3
    assert last.memory_mib > 0
