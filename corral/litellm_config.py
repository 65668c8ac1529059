"""LiteLLM's configuration, rendered from the farm. It holds no secret: values of keys come by environment."""

from collections.abc import Mapping
from typing import Any

import yaml

from corral.local_farm import LocalFarm, LocalServer
from corral.ports import HOST

HEADER = "# Rendered by `corral up` on every start; changes made here are lost.\n"

USD_PER_TOKEN = 1e-6
"""Notional price of every token, prompt or answer, so that a key's budget means something on one's own
hardware: a budget of 5 buys five million tokens."""


def render(farm: LocalFarm, ports: Mapping[str, int]) -> str:
    """Return LiteLLM's `config.yaml` for a farm.

    Args:
        farm: the servers behind the gate.
        ports: the port of each server, by its name.
    """
    config: dict[str, Any] = {
        "model_list": [_deployment(server, ports[server.name]) for server in farm.servers],
        "router_settings": {
            "routing_strategy": "least-busy",
            "num_retries": 2,
            "retry_after": 0,
            "allowed_fails": 3,
            "cooldown_time": 5,
        },
        "litellm_settings": {
            "callbacks": ["corral_headers.headers", "corral_body_guard.guard", "corral_retries.retries"],
            "request_timeout": 600,
            "telemetry": False,
        },
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY",
            "database_url": "os.environ/DATABASE_URL",
            "database_connection_pool_limit": 10,
            "background_health_checks": False,  # they are real completions: GPU time, and prompts evicted from caches
            "proxy_batch_write_at": 5,  # s between writes of spend
        },
    }
    return HEADER + yaml.safe_dump(config, sort_keys=False, width=120)


def _deployment(server: LocalServer, port: int) -> dict[str, Any]:
    """Return the entry of one server; its `id` is the server's name in every log and header."""
    info: dict[str, Any] = {
        "id": server.name,
        "mode": server.model.mode,
        "input_cost_per_token": USD_PER_TOKEN,
        "output_cost_per_token": USD_PER_TOKEN,
        "max_input_tokens": server.model.context,
    }
    return {
        "model_name": server.model_name,
        "litellm_params": {
            "model": f"hosted_vllm/{server.model_name}",  # costs LiteLLM a third less CPU than `openai/`
            "api_base": f"http://{HOST}:{port}/v1",
            "api_key": "os.environ/GPU_SERVER_KEY",
            "max_retries": 0,  # the router retries, on another server
            "input_cost_per_token": USD_PER_TOKEN,
            "output_cost_per_token": USD_PER_TOKEN,
        },
        "model_info": info,
    }
