"""What is rendered is what the other rooms read: a gpu-server's settings, the hooks that LiteLLM loads."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from corral.farm.owned_flags import OWNED_FLAGS
from corral.render import Target, render
from corral.render.litellm import HOOKS
from gpu_server.settings import OWNED_FLAGS as OWNED_BY_GPU_SERVER
from gpu_server.settings import SettingsError, load
from support.random_farms import FARMS, example, farm_of

EVERY_MODE = """
hosts: {box: {address: 10.0.0.2, cores: 16, gpus: [{memory_mib: 24576, uuid: GPU-1234abcd}]}}
models:
  llama: {source: {hub: o/r, file: m.gguf}, memory_mib: 4096, extra_args: [--no-mmap, "--seed 1"]}
  rank: {mode: rerank, source: {path: /data/rank.gguf}}
  ears: {mode: transcription, source: {hub: o/r, file: e.gguf}, projector: {path: /data/ears.gguf}}
  vectors: {mode: embedding, source: {hub: o/r, file: v.gguf}}
  on-cpu: {source: {hub: o/r, file: c.gguf}, gpu_layers: 0}
servers:
  - {model: llama, host: box, gpus: [0], ports: 8080}
  - {model: rank, host: box, ports: 8081}
  - {model: ears, host: box, ports: 8082}
  - {model: vectors, host: box, gpus: [0], ports: 8083}
  - {model: on-cpu, host: box, gpus: [0], ports: 8084}
"""


def containers(folder: Path) -> list[dict[str, str]]:
    """The environment of each gpu-server's container, in compose and in Kubernetes."""
    environments = []
    for farm in (example("reference"), example("two-hosts"), farm_of(EVERY_MODE, folder)):
        for file in render(farm, [Target.GPU_HOSTS, Target.KUBERNETES]):
            for document in yaml.safe_load_all(file.text):
                environments += _of_compose(document) if "services" in document else _of_kubernetes(document)
    return environments


def _of_compose(document: dict[str, Any]) -> list[dict[str, str]]:
    services = document["services"].values()
    return [service["environment"] for service in services if "MODEL_PATH" in service["environment"]]


def _of_kubernetes(document: dict[str, Any]) -> list[dict[str, str]]:
    if document["kind"] != "Deployment":
        return []
    (container,) = document["spec"]["template"]["spec"]["containers"]
    return [{each["name"]: each.get("value", "a-key") for each in container["env"]}]


def test_a_gpu_server_takes_every_environment_that_is_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = containers(tmp_path)
    assert len(found) > 30
    for environment in found:
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            with pytest.raises(SettingsError) as refused:
                load()
        # nothing but the files, which are not on this machine
        assert {fault.split(":")[0] for fault in refused.value.faults} <= {"MODEL_PATH", "MMPROJ_PATH"}


def test_each_hook_that_litellm_is_told_to_load_is_there() -> None:
    for hook in HOOKS:
        module, name = hook.split(".")
        hooks = FARMS.parent / "litellm" / "hooks"
        file = hooks / f"{module}.py"
        text = (file if file.exists() else hooks / module / "__init__.py").read_text()
        assert f"\n{name} = " in text


def test_the_farm_file_refuses_the_very_flags_that_a_gpu_server_refuses() -> None:
    assert set(OWNED_FLAGS) == set(OWNED_BY_GPU_SERVER)
