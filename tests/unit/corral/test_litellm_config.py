from pathlib import Path

import yaml

from corral import litellm_config, local_farm
from corral.farm import load_farm
from corral.machine import Machine
from corral.paths import DEFAULT_FARM_FILE

FARM = local_farm.choose(
    load_farm(DEFAULT_FARM_FILE).value,
    Path(),
    Path("models"),
    Machine("x86_64", frozenset({"avx2"}), 2, 8000, 50_000),
)
PORTS = {"chat-1": 8080, "chat-2": 9081, "embed-1": 8090}


def test_each_server_is_a_deployment_under_its_own_id_and_its_models_name() -> None:
    config = yaml.safe_load(litellm_config.render(FARM, PORTS))
    seen = [(d["model_name"], d["model_info"]["id"], d["litellm_params"]["api_base"]) for d in config["model_list"]]
    assert seen == [
        ("chat", "chat-1", "http://127.0.0.1:8080/v1"),
        ("chat", "chat-2", "http://127.0.0.1:9081/v1"),
        ("embed", "embed-1", "http://127.0.0.1:8090/v1"),
    ]


def test_secrets_are_named_never_written() -> None:
    config = yaml.safe_load(litellm_config.render(FARM, PORTS))
    assert config["general_settings"]["master_key"] == "os.environ/LITELLM_MASTER_KEY"
    assert config["general_settings"]["database_url"] == "os.environ/DATABASE_URL"
    assert {d["litellm_params"]["api_key"] for d in config["model_list"]} == {"os.environ/GPU_SERVER_KEY"}


def test_the_farm_still_works_by_least_busy_and_costs_no_health_completions() -> None:
    config = yaml.safe_load(litellm_config.render(FARM, PORTS))
    assert config["router_settings"]["routing_strategy"] == "least-busy"
    assert config["general_settings"]["background_health_checks"] is False


def test_the_first_line_says_that_it_is_rendered() -> None:
    assert litellm_config.render(FARM, PORTS).splitlines()[0].startswith("# Rendered by `corral up`")
