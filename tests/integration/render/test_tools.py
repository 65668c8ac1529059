"""What reads the rendered files accepts them: Compose v2, promtool, Kubernetes' schemas, LiteLLM's proxy."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from corral.farm import load_farm
from corral.render import Target, render
from support.random_farms import FARMS, HOSTILE, as_yaml, big_farm

pytestmark = pytest.mark.integration

SECRETS = dict.fromkeys(
    (
        "GPU_SERVER_KEY", "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "UI_USERNAME", "UI_PASSWORD", "POSTGRES_PASSWORD",
        "REDIS_PASSWORD", "OPENAI_API_KEY", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "GATE_METRICS_KEY",
        "GRAFANA_ADMIN_PASSWORD", "LANGFUSE_POSTGRES_PASSWORD", "LANGFUSE_CLICKHOUSE_PASSWORD",
        "LANGFUSE_REDIS_PASSWORD", "LANGFUSE_STORE_USER", "LANGFUSE_STORE_PASSWORD",
        "LANGFUSE_NEXTAUTH_SECRET", "LANGFUSE_SALT",
        "LANGFUSE_ENCRYPTION_KEY", "LANGFUSE_USER_EMAIL", "LANGFUSE_USER_PASSWORD",
    ),
    "from-the-environment",
)  # fmt: skip
COMPOSE = Path(sys.executable).with_name("docker-compose")
EXAMPLES = ("reference", "two-hosts", "laptop")

EVERYTHING = """
hosts:
  box: {address: 10.0.0.2, cores: 16, cpuset: "0-7", gpus: [{memory_mib: 24576, uuid: GPU-1234abcd}]}
  gate: {address: gate.lan}
models:
  llama: {source: {hub: o/r, file: m.gguf}, aliases: [chat], limits: {rpm: 60, tpm: 100000, parallel: 8}}
  rank: {mode: rerank, source: {path: /data/rank.gguf}}
  ears: {mode: transcription, source: {hub: o/r, file: e.gguf}, projector: {path: /data/ears.gguf}}
  images: {mode: image, image: "localai/localai:v3.7.0"}
servers:
  - {model: llama, host: box, gpus: [0], ports: 8080}
  - {model: rank, host: box, ports: 8081}
  - {model: ears, host: box, ports: 8082}
  - {model: images, host: box, gpus: [0], ports: 8083}
proxy:
  host: gate
  listen: 0.0.0.0
  workers: 2
  parallel_requests: 100
  routing: {strategy: usage-based-routing-v2, cooldown_s: 2.5, timeout_s: 90}
  caching: {redis: true}
  fallbacks: {llama: [elsewhere]}
providers:
  elsewhere: {model: openai/gpt-4o-mini, api_key_env: OPENAI_API_KEY, rpm: 10, aliases: [other]}
monitoring: {}
langfuse: {host: gate, url: "https://traces.example"}
"""


@pytest.fixture(params=[*EXAMPLES, "everything"])
def rendered(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A farm, rendered in full."""
    farm = FARMS / f"{request.param}.yaml"
    if request.param == "everything":
        farm = tmp_path / "corral.yaml"
        farm.write_text(EVERYTHING)
    return written(farm, tmp_path / request.param)


def written(farm: Path, out: Path) -> Path:
    for file in render(load_farm(farm).value, frozenset(Target)):
        target = out / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.text, encoding="utf-8")
    return out


def ran(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **(environment or {})}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def compose(file: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return ran([COMPOSE, "-f", file, *arguments], {**SECRETS, "LISTEN_ADDRESS": "10.0.0.9", **environment})


def test_compose_accepts_each_file(rendered: Path) -> None:
    for file in rendered.glob("**/compose.yaml"):
        done = compose(file, "--profile", "*", "config", "-q")
        assert (done.returncode, done.stderr) == (0, ""), file


def test_compose_names_the_secret_that_is_missing(tmp_path: Path) -> None:
    file = written(FARMS / "two-hosts.yaml", tmp_path) / "litellm" / "compose.yaml"
    done = compose(file, "config", "-q", LITELLM_MASTER_KEY="")
    assert done.returncode != 0
    assert "LITELLM_MASTER_KEY is missing a value: set it in .env" in done.stderr


def test_compose_reads_hostile_strings_as_they_were_written(tmp_path: Path) -> None:
    """As they stand in the farm file, and nothing of them as YAML, as a variable or as an option."""
    data = big_farm(1)
    texts = [text for text in HOSTILE if text.isprintable()]
    model = data["models"].pop("llama")
    data["models"] = {f"m{place}": {**model, "source": {"path": f"/data/{text}"}} for place, text in enumerate(texts)}
    data["models"]["1e3"] = {**model, "extra_args": ["--override-kv 'a: \"b\" {c} !!python/object -d'"]}
    data["servers"] = [
        {"model": name, "host": "box-0", "gpus": [0], "ports": 9000 + place, "name": f"s{place}"}
        for place, name in enumerate(data["models"])
    ]
    farm = tmp_path / "corral.yaml"
    farm.write_text(as_yaml(data), encoding="utf-8")
    file = written(farm, tmp_path / "out") / "hosts" / "box-0" / "gpu-server" / "compose.yaml"
    done = compose(file, "config", "--format", "json", HOME="/expanded")
    assert done.returncode == 0, done.stderr
    # `config` writes a file that can be read again, so a dollar comes doubled
    services: dict[str, Any] = json.loads(done.stdout.replace("$$", "$"))["services"]
    for place, text in enumerate(texts):
        assert services[f"s{place}-1"]["volumes"][0]["source"] == f"/data/{text}"
    last = services[f"s{len(texts)}-1"]["environment"]
    assert last["MODEL_ALIAS"] == "1e3"
    assert last["EXTRA_ARGS"] == data["models"]["1e3"]["extra_args"][0]
    assert last["API_KEY"] == "from-the-environment"


def test_promtool_accepts_configuration_rules_and_targets(rendered: Path) -> None:
    configuration = rendered / "monitoring" / "prometheus" / "prometheus.yml"
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing; apt-get install prometheus"
    # only the syntax: the key it reads the gate's metrics with is not there
    done = ran([promtool, "check", "config", "--syntax-only", configuration])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
    assert "FAILED" not in done.stdout + done.stderr


def test_kubernetes_schemas_accept_each_manifest_strictly(rendered: Path) -> None:
    manifests = sorted(rendered.glob("kubernetes/**/*.yaml"))
    assert len(manifests) > 2
    done = ran([sys.executable, "-m", "kubernetes_validate", "--strict", *manifests])
    assert done.returncode == 0, done.stdout + done.stderr
    warned = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("WARN")]
    assert all("PodMonitor" in line for line in warned)  # the Prometheus operator's own kind


LOAD = """
import asyncio, json, os, sys
import litellm
from litellm.proxy.proxy_server import ProxyConfig

async def main():
    router, models, general = await ProxyConfig().load_config(router=None, config_file_path=sys.argv[1])
    print(json.dumps({
        "models": [d["model_info"]["id"] for d in router.model_list],
        "names": sorted(router.get_model_names()),
        "strategy": router.routing_strategy,
        "redis": redis(router.cache.redis_cache),
        "aliases": router.model_group_alias,
        "keys": sorted({d["litellm_params"].get("api_key") or "" for d in router.model_list}),
        "traces": os.environ.get("LANGFUSE_OTEL_HOST"),
        "callbacks": [c if isinstance(c, str) else type(c).__name__ for c in litellm.callbacks],
    }))

def redis(cache):
    settings = cache and cache.redis_client.connection_pool.connection_kwargs
    return cache and {name: settings[name] for name in ("retry", "socket_timeout", "socket_connect_timeout")}

asyncio.run(main())
"""


@pytest.mark.parametrize("rendered", ["two-hosts", "everything"], indirect=True)  # the laptop's runs in the e2e tests
def test_litellm_loads_its_configuration_as_the_proxy_does(rendered: Path) -> None:
    environment = {
        **SECRETS,
        "DATABASE_URL": "",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONPATH": str(FARMS.parent / "litellm" / "hooks"),
        "HOME": str(rendered),
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": "1",
    }
    config = rendered / "litellm" / "config.yaml"
    done = ran([sys.executable, "-c", LOAD, config], environment)
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = json.loads(done.stdout.splitlines()[-1])
    said = yaml.safe_load(config.read_text())
    assert loaded["models"] == [each["model_info"]["id"] for each in said["model_list"]]
    redis = {"retry": None, "socket_timeout": 1, "socket_connect_timeout": 1}  # who waits holds up the event loop
    assert loaded["redis"] == (redis if "redis_host" in said["router_settings"] else None)
    assert loaded["strategy"] == said["router_settings"]["routing_strategy"]
    assert set(loaded["aliases"]) <= set(loaded["names"])
    assert set(loaded["keys"]) == {"from-the-environment"}
    assert {"CorralHeaders", "Guard"} <= set(loaded["callbacks"])
    if "environment_variables" in said:
        assert loaded["traces"] == "https://traces.example"
        assert "Traces" in loaded["callbacks"]
