"""Random farm files, and a very large one: all render, to files that read back as what the farm file says."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from corral.farm import FarmFile, load_farm, servers_of
from corral.farm.checks import problems
from corral.render import HEADER, Target, render
from corral.yamlfile import YamlFileErrors, loads
from support.random_farms import HOSTILE, as_yaml, big_farm, farm_files

ALL = frozenset(Target)


@given(farm_files())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_every_valid_farm_renders_into_files_that_read_back(data: dict[str, Any]) -> None:
    farm = loads(as_yaml(data), "corral.yaml", FarmFile, problems)
    files = {str(file.path): file.text for file in render(farm, ALL)}
    documents = {}
    for path, text in files.items():
        if path.endswith(".json"):
            documents[path] = [json.loads(text)]
        else:
            assert text.startswith(HEADER)
            documents[path] = list(yaml.safe_load_all(text))
    assert {str(file.path): file.text for file in render(farm, ALL)} == files

    servers = servers_of(farm)
    deployments = documents["litellm/config.yaml"][0]["model_list"]
    assert [each["model_info"]["id"] for each in deployments][: len(servers)] == [server.name for server in servers]
    assert len({each["model_info"]["id"] for each in deployments}) == len(deployments)
    for name, provider in farm.providers.items():
        (found,) = [each for each in deployments if each["model_name"] == name]
        assert found["litellm_params"]["model"] == provider.model
    for host in farm.hosts:
        here = [server for server in servers if server.host_name == host]
        if not here:
            assert f"hosts/{host}/gpu-server/compose.yaml" not in files
            continue
        services = documents[f"hosts/{host}/gpu-server/compose.yaml"][0]["services"]
        assert sorted(services) == sorted(server.name for server in here)
        ports = [port["published"] for service in services.values() for port in service["ports"]]
        assert len(set(ports)) == len(ports)
        for server in here:
            service = services[server.name]
            if server.model.mode == "image":
                continue
            said = " ".join(server.model.extra_args).replace("$", "$$")
            assert service["environment"].get("EXTRA_ARGS", "") == said
            source = server.model.source
            if source is not None and hasattr(source, "path"):
                assert service["volumes"][0]["source"] == source.path.replace("$", "$$")
            if server.memory_mib and "CACHE_RAM_MIB" in service["environment"]:
                room = server.memory_mib // 4 if server.gpu_index is None else server.memory_mib - 350
                assert int(service["environment"]["CACHE_RAM_MIB"]) <= max(0, room)


def _unknown_model(farm: dict[str, Any]) -> str:
    farm["servers"][-1]["model"] = "nowhere"
    return "nowhere"


def _unknown_key(farm: dict[str, Any]) -> str:
    next(iter(farm["models"].values()))["contxt"] = 4096
    return "contxt"


def _missing_card(farm: dict[str, Any]) -> str:
    farm["servers"][0] = {**farm["servers"][0], "gpus": [77], "ports": [9999]}
    farm["servers"][0].pop("count", None)
    return "- 77"


def _same_port(farm: dict[str, Any]) -> str:
    host = farm["servers"][0]["host"]
    model = farm["servers"][0]["model"]
    farm["servers"] += [
        {"model": model, "host": host, "ports": [9999]},
        {"model": model, "host": host, "ports": [9999]},
    ]
    return "- 9999"


def _shared_alias(farm: dict[str, Any]) -> str:
    farm["models"][farm["servers"][0]["model"]]["aliases"] = ["twice", "twice"]
    return "- twice"


def _circle(farm: dict[str, Any]) -> str:
    name = next(iter(farm["models"]))
    farm["proxy"]["fallbacks"] = {name: [name]}
    return f"- {name}"


def _secret(farm: dict[str, Any]) -> str:
    farm["providers"]["paid"] = {"model": "openai/x", "api_key": "sk-0123456789abcdef0123456789abcdef"}
    return "api_key: "


@pytest.mark.parametrize(
    "spoil", [_unknown_model, _unknown_key, _missing_card, _same_port, _shared_alias, _circle, _secret]
)
@given(data=farm_files())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_farm_with_one_fault_is_refused_at_its_line(
    spoil: Callable[[dict[str, Any]], str], data: dict[str, Any]
) -> None:
    wrong = spoil(data)
    text = as_yaml(data)
    with pytest.raises(YamlFileErrors) as refused:
        loads(text, "corral.yaml", FarmFile, problems)
    lines = text.splitlines()
    assert any(wrong in lines[problem.line - 1] for problem in refused.value.problems), str(refused.value)


def test_a_thousand_servers_render_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "corral.yaml"
    path.write_text(as_yaml(big_farm(1000)))
    farm = load_farm(path).value
    before = time.process_time()
    files = render(farm, ALL)
    assert time.process_time() - before < 10  # 1.6 s alone; by CPU, for beside other tests it has waited for 20 s
    assert len(files) > 1000


def test_the_same_file_gives_the_same_bytes_in_another_process() -> None:
    script = (
        "import sys; from pathlib import Path; "
        "from corral.farm import load_farm; from corral.render import Target, render; "
        "sys.stdout.write(''.join(f.text for f in render(load_farm(Path(sys.argv[1])).value, frozenset(Target))))"
    )
    farm = Path(__file__).parents[3] / "farms" / "reference.yaml"
    outputs = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", script, str(farm)], env=environment, capture_output=True, check=True, timeout=60
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1


@pytest.mark.parametrize("text", [word for word in HOSTILE if word.isprintable()])
def test_a_hostile_path_reaches_compose_as_it_is(text: str, tmp_path: Path) -> None:
    data = big_farm(1)
    data["models"]["llama"]["source"] = {"path": f"/data/{text}"}
    path = tmp_path / "corral.yaml"
    path.write_text(as_yaml(data), encoding="utf-8")
    (compose,) = [file for file in render(load_farm(path).value) if file.path.match("hosts/*/gpu-server/compose.yaml")]
    service = yaml.safe_load(compose.text)["services"]["box-0-1"]
    assert service["volumes"][0]["source"].replace("$$", "$") == f"/data/{text}"
    interpolated = {"${GPU_SERVER_KEY:?set it in .env}", "${CORRAL_GPU_SERVER:-../../../gpu-server}"}
    assert set(re.findall(r"(?<!\$)(?:\$\$)*(\$\{[^}]*\})", compose.text)) == interpolated
