"""The gate's configuration and containers."""

from pathlib import Path
from typing import Any

import yaml

from corral import litellm_config, local_farm
from corral.machine import Machine
from corral.render import render
from support.random_farms import example, farm_of

TWO_MODELS = """
hosts: {box: {address: 10.0.0.2, gpus: [{memory_mib: 8192}]}, gate: {address: 10.0.0.3}}
models:
  llama:
    source: {hub: o/r, file: m.gguf}
    aliases: [chat, default]
    price: {prompt: 2, answer: 4}
  embed: {mode: embedding, source: {hub: o/r, file: e.gguf}}
servers:
  - {model: llama, host: box, gpus: [0], ports: 8080}
  - {model: embed, host: box, ports: 8090}
proxy: {host: gate, listen: 10.0.0.3%s}
"""


def of(files: object, path: str) -> dict[str, Any]:
    (text,) = [file.text for file in files if str(file.path) == path]  # type: ignore[attr-defined]
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def config(text: str, folder: Path) -> dict[str, Any]:
    return of(render(farm_of(text, folder)), "litellm/config.yaml")


def test_the_laptops_gate_is_what_corral_up_gives_it() -> None:
    machine = Machine("x86_64", frozenset({"avx2"}), 2, 8000, 50_000)
    farm = local_farm.choose(example("laptop"), Path(), Path("models"), machine)
    ports = {"chat-1": 8080, "chat-2": 8081, "embed-1": 8090}
    today = yaml.safe_load(litellm_config.render(farm, ports))
    assert of(render(example("laptop")), "litellm/config.yaml") == today


def test_prices_are_by_the_million_tokens(tmp_path: Path) -> None:
    parameters = config(TWO_MODELS % "", tmp_path)["model_list"][0]["litellm_params"]
    assert (parameters["input_cost_per_token"], parameters["output_cost_per_token"]) == (2e-6, 4e-6)


def test_an_alias_falls_back_as_its_model_does() -> None:
    settings = of(render(example("reference")), "litellm/config.yaml")["router_settings"]
    names = ("llama", "default", "sfw", "chat")
    assert settings["fallbacks"] == [{name: ["llama-uncensored"]} for name in names]
    assert settings["model_group_alias"]["nsfw"] == "llama-uncensored"


def test_limits_are_enforced_and_only_where_there_are_some(tmp_path: Path) -> None:
    limited = of(render(example("two-hosts")), "litellm/config.yaml")
    assert limited["router_settings"]["enable_pre_call_checks"] is True
    assert limited["router_settings"]["optional_pre_call_checks"] == ["enforce_model_rate_limits"]
    assert limited["model_list"][0]["litellm_params"]["rpm"] == 120
    free = config(TWO_MODELS % "", tmp_path)
    assert "enable_pre_call_checks" not in free["router_settings"]


def test_a_limit_by_the_minute_makes_none_at_a_time(tmp_path: Path) -> None:
    text = TWO_MODELS.replace("price:", "slots: 4\n    limits: {tpm: 100}\n    price:") % ""
    parameters = config(text, tmp_path)["model_list"][0]["litellm_params"]
    assert parameters["max_parallel_requests"] == 4 + 32  # LiteLLM would allow one: 100 tokens / 1000 * 6


def test_traces_hold_no_content_unless_asked(tmp_path: Path) -> None:
    text = TWO_MODELS % "" + "langfuse: {url: 'https://traces.example', secret_key_env: LF_SECRET%s}\n"
    silent = config(text % "", tmp_path)
    assert "corral_traces.traces" in silent["litellm_settings"]["callbacks"]
    assert silent["environment_variables"] == {
        "LANGFUSE_OTEL_HOST": "https://traces.example",
        "LANGFUSE_PUBLIC_KEY": "os.environ/LANGFUSE_PUBLIC_KEY",
        "LANGFUSE_SECRET_KEY": "os.environ/LF_SECRET",
        "LANGFUSE_SAMPLE_RATE": "1",
        "CORRAL_TRACES": "figures",
    }
    assert config(text % ", content: true", tmp_path)["environment_variables"]["CORRAL_TRACES"] == "content"


def test_redis_comes_with_caching_and_its_password_from_the_environment(tmp_path: Path) -> None:
    files = render(farm_of(TWO_MODELS % ", caching: {redis: true, ttl_s: 60}, workers: 2", tmp_path))
    settings = of(files, "litellm/config.yaml")
    assert settings["litellm_settings"]["cache_params"]["ttl"] == 60
    assert settings["router_settings"]["redis_password"] == "os.environ/REDIS_PASSWORD"
    services = of(files, "litellm/compose.yaml")["services"]
    assert services["litellm"]["environment"]["REDIS_PASSWORD"] == "${REDIS_PASSWORD:?set it in .env}"
    assert services["litellm"]["depends_on"]["redis"]["condition"] == "service_healthy"
    without = of(render(farm_of(TWO_MODELS % "", tmp_path)), "litellm/compose.yaml")["services"]
    assert set(without) == {"litellm", "postgres", "backup"}


def test_counters_in_redis_need_no_cache_of_answers(tmp_path: Path) -> None:
    settings = config(TWO_MODELS % ", caching: {redis: true, answers: false}, workers: 2", tmp_path)
    where = {"host": "os.environ/REDIS_HOST", "port": "os.environ/REDIS_PORT", "password": "os.environ/REDIS_PASSWORD"}
    assert settings["general_settings"]["coordination_redis"].items() >= where.items()
    assert settings["router_settings"]["redis_host"] == where["host"]
    assert "cache" not in settings["litellm_settings"]


def test_no_request_waits_long_for_a_redis_that_is_gone(tmp_path: Path) -> None:
    files = render(farm_of(TWO_MODELS % ", caching: {redis: true}, workers: 2", tmp_path))
    settings = of(files, "litellm/config.yaml")
    patience = {"socket_timeout": 1, "socket_connect_timeout": 1}
    assert settings["router_settings"]["cache_kwargs"] == {**patience, "retry": None}
    assert settings["litellm_settings"]["cache_params"].items() >= {**patience, "retry": None}.items()
    assert settings["general_settings"]["coordination_redis"].items() >= patience.items()
    environment = of(files, "litellm/compose.yaml")["services"]["litellm"]["environment"]
    assert int(environment["REDIS_CIRCUIT_BREAKER_RECOVERY_TIMEOUT"]) <= 10


def test_a_dump_is_made_each_night_by_the_programs_of_the_database_itself() -> None:
    document = of(render(example("two-hosts")), "litellm/compose.yaml")
    backup, postgres = document["services"]["backup"], document["services"]["postgres"]
    assert (backup["image"], backup["user"]) == (postgres["image"], postgres["user"])
    volume, scripts = backup["volumes"]
    assert volume["source"] in document["volumes"]
    assert volume["source"] != postgres["volumes"][0]["source"]
    assert scripts["read_only"] is True
    assert backup["environment"]["BACKUP_KEEP"] == "${BACKUP_KEEP:-14}"
    assert "ports" not in backup


def test_no_rendered_file_holds_a_secret_and_compose_asks_for_each() -> None:
    services = of(render(example("two-hosts")), "litellm/compose.yaml")["services"]
    environment = services["litellm"]["environment"]
    for name in ("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "UI_PASSWORD", "GPU_SERVER_KEY", "OPENAI_API_KEY"):
        assert environment[name] == f"${{{name}:?set it in .env}}"
    assert environment["DATABASE_URL"].startswith("postgresql://litellm:${POSTGRES_PASSWORD:?")
    assert services["litellm"]["ports"][0]["host_ip"] == "192.168.1.10"
    assert "ports" not in services["postgres"]


def test_a_gate_beside_servers_on_the_loopback_uses_the_hosts_network(tmp_path: Path) -> None:
    text = """
hosts: {box: {}}
models: {llama: {source: {hub: o/r, file: m.gguf}}}
servers: [{model: llama, host: box, ports: 8080}]
"""
    services = of(render(farm_of(text, tmp_path)), "litellm/compose.yaml")["services"]
    assert services["litellm"]["network_mode"] == "host"
    assert services["litellm"]["command"][-3:] == ["127.0.0.1", "--port", "4000"]
    assert services["postgres"]["ports"][0] == {
        "target": 5432, "published": "15432", "protocol": "tcp", "host_ip": "127.0.0.1",
    }  # fmt: skip
    assert "@127.0.0.1:15432/litellm" in services["litellm"]["environment"]["DATABASE_URL"]


def test_an_ipv6_address_is_bracketed_in_urls(tmp_path: Path) -> None:
    text = (TWO_MODELS % "").replace("10.0.0.2", "'fd00::2'")
    assert config(text, tmp_path)["model_list"][0]["litellm_params"]["api_base"] == "http://[fd00::2]:8080/v1"


def test_an_image_server_is_asked_as_openai(tmp_path: Path) -> None:
    (image,) = [
        each
        for each in of(render(example("reference")), "litellm/config.yaml")["model_list"]
        if each["model_name"] == "images"
    ]
    assert image["litellm_params"]["model"] == "openai/images"
    assert image["model_info"]["mode"] == "image_generation"


def test_a_change_of_a_context_is_none_of_the_gate_which_would_have_to_restart(tmp_path: Path) -> None:
    more = TWO_MODELS.replace("price:", "context: 8192\n    price:")
    assert config(more % "", tmp_path) == config(TWO_MODELS % "", tmp_path)
