"""`litellm/config.yaml`: the gate's deployments, routing and limits. It names secrets, and holds none.

What LiteLLM 1.106.2 does with it, found in its source and by trying (tests/integration/render/test_gate_router.py):

- An alias is a `model_group_alias`, not a second deployment: a key whose models are `[chat]` may ask for `chat`, one
  for `qwen` for both; limits count once, per server. Fallbacks are looked up by the name asked for, so each alias has
  an entry of its own.
- `rpm` of a deployment is not enforced by least-busy. `enable_pre_call_checks` leaves out deployments that have
  reached it and answers 429 when all have. The check `enforce_model_rate_limits` alone refuses requests while another
  server has room, but it is what knows `tpm`. So both.
- Pre-call checks count each prompt's tokens, with another tokenizer than the model's, where `max_input_tokens` is
  given; so that is left out. It would also make every change of a context a change of the gate, which must restart.
- A deployment with `rpm` or `tpm` gets a limit of parallel requests derived from them, unless told one.
- Redis is named up to three times: `router_settings` for the router's counts and cooldowns, `coordination_redis` for
  limits and budgets of keys, `cache_params` for answers. Limits alone need no cache of answers.
- Left to itself, a worker whose Redis is gone stands still for half a minute and more, with all of its streams: least-
  busy and cooldown speak to Redis in the event loop, where the client tries ten times, 4 s in all or 5 s each. Hence
  `cache_kwargs`; `coordination_redis` cannot be given `retry`, and does not need it: its client waits in no one's way.
- `global_max_parallel_requests` is read by the older limiter only (LEGACY_MULTI_INSTANCE_RATE_LIMITING=true), which
  counts per worker; by itself it does nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Required, TypedDict

from corral.farm import FarmFile, Server
from corral.farm.gate import Provider
from corral.farm.model import Model
from corral.render import gate_metrics
from corral.render.document import Rendered, number, yaml_file

HOOKS = (
    "corral_headers.headers", "corral_request_log.requests", "corral_body_guard.guard", "corral_retries.retries",
    "corral_fast_path.fast_path",
)  # fmt: skip
ROUTING_HOOK = "corral_routing.hook.routing"
"""Chooses among what `corral_retries` leaves, so it comes after it. With another strategy than least-busy it would
overrule what the farm file asks for."""
TRACES = "corral_traces.traces"
METRICS = "prometheus"
PROVIDER_ID = "provider."
"""Before a provider's name in its deployment's id. No server's name has a dot, so the two never meet."""

_MODES: Mapping[str, str] = {
    "chat": "chat",
    "embedding": "embedding",
    "rerank": "rerank",
    "transcription": "audio_transcription",
    "image": "image_generation",
}


class Parameters(TypedDict, total=False):
    """How LiteLLM reaches a deployment, and how much it lets through by the minute and at a time."""

    model: Required[str]
    api_base: str
    api_key: str
    max_retries: int
    rpm: int
    tpm: int
    max_parallel_requests: int
    input_cost_per_token: float
    output_cost_per_token: float
    output_cost_per_image: float


class Info(TypedDict, total=False):
    """What LiteLLM tells about a deployment. `id` is the server's name in every log and header."""

    id: Required[str]
    mode: str
    input_cost_per_token: float
    output_cost_per_token: float


class Deployment(TypedDict):
    """One server behind a model's name."""

    model_name: str
    litellm_params: Parameters
    model_info: Info


class RouterSettings(TypedDict, total=False):
    """`router_settings`."""

    routing_strategy: str
    num_retries: int
    retry_after: int
    allowed_fails: int
    cooldown_time: float
    enable_pre_call_checks: bool
    optional_pre_call_checks: list[Literal["enforce_model_rate_limits"]]
    model_group_alias: dict[str, str]
    fallbacks: list[dict[str, list[str]]]
    redis_host: str
    redis_port: str
    redis_password: str
    cache_kwargs: dict[str, int | None]


class Config(TypedDict, total=False):
    """The whole file."""

    model_list: list[Deployment]
    router_settings: RouterSettings
    litellm_settings: dict[str, Any]
    general_settings: dict[str, Any]
    environment_variables: dict[str, str]


def render(farm: FarmFile, servers: Sequence[Server]) -> Rendered:
    """Return the gate's configuration for a farm whose servers are these."""
    return yaml_file("litellm/config.yaml", {**config(farm, servers)})


def config(farm: FarmFile, servers: Sequence[Server]) -> Config:
    """Return the gate's configuration as data."""
    limited = _has_limits(farm)
    document: Config = {
        "model_list": [
            *map(_server, servers),
            *(_provider(name, provider) for name, provider in farm.providers.items()),
        ],
        "router_settings": _router(farm, limited=limited),
        "litellm_settings": _settings(farm),
        "general_settings": _general(farm),
    }
    if farm.langfuse and farm.langfuse_url:
        document["environment_variables"] = {
            "LANGFUSE_OTEL_HOST": farm.langfuse_url,
            "LANGFUSE_PUBLIC_KEY": from_environment(farm.langfuse.public_key_env),
            "LANGFUSE_SECRET_KEY": from_environment(farm.langfuse.secret_key_env),
            "LANGFUSE_SAMPLE_RATE": str(number(farm.langfuse.sample)),
            "CORRAL_TRACES": "content" if farm.langfuse.content else "figures",
        }
    return document


def from_environment(name: str) -> str:
    """Return what LiteLLM replaces by the value of an environment variable."""
    return f"os.environ/{name}"


_REDIS: Mapping[str, str] = {name: from_environment(f"REDIS_{name.upper()}") for name in ("host", "port", "password")}
"""Where Redis is, as each of LiteLLM's settings that name one wants it."""
_PATIENCE: Mapping[str, int] = {"socket_timeout": 1, "socket_connect_timeout": 1}
"""Seconds that a command waits for Redis. It answers within a millisecond; what does without it must not come late."""
_ONE_TRY: Mapping[str, int | None] = {**_PATIENCE, "retry": None}


def url_of(server: Server) -> str:
    """Return where the other hosts reach a server, without a path."""
    address = server.host.address
    return f"http://[{address}]:{server.port}" if ":" in address else f"http://{address}:{server.port}"


def _server(server: Server) -> Deployment:
    model = server.model
    parameters: Parameters = {
        "model": f"{_dialect(model)}/{server.model_name}",
        "api_base": f"{url_of(server)}/v1",
        "api_key": from_environment("GPU_SERVER_KEY"),
        "max_retries": 0,  # the router retries, on another server
    }
    _limit(parameters, model)
    info: Info = {"id": server.name, "mode": _MODES[model.mode]}
    if model.mode == "image":
        parameters["output_cost_per_image"] = 0.0
    else:
        prompt, answer = model.price.prompt / 1e6, model.price.answer / 1e6
        parameters |= {"input_cost_per_token": prompt, "output_cost_per_token": answer}
        info |= {"input_cost_per_token": prompt, "output_cost_per_token": answer}
    return {"model_name": server.model_name, "litellm_params": parameters, "model_info": info}


def _dialect(model: Model) -> str:
    return "openai" if model.mode == "image" else "hosted_vllm"  # it costs LiteLLM a third less CPU than openai


def _limit(parameters: Parameters, model: Model) -> None:
    limits = model.limits
    if limits is None:
        return
    if limits.rpm is not None:
        parameters["rpm"] = limits.rpm
    if limits.tpm is not None:
        parameters["tpm"] = limits.tpm
    parameters["max_parallel_requests"] = (
        limits.parallel or model.slots + model.serving.max_queue
    )  # as many as it takes


def _provider(name: str, provider: Provider) -> Deployment:
    parameters: Parameters = {"model": provider.model}
    if provider.api_base:
        parameters["api_base"] = provider.api_base
    if provider.api_key_env:
        parameters["api_key"] = from_environment(provider.api_key_env)
    parameters["max_retries"] = 0
    if provider.rpm:
        parameters["rpm"] = provider.rpm
    return {"model_name": name, "litellm_params": parameters, "model_info": {"id": PROVIDER_ID + name}}


def _has_limits(farm: FarmFile) -> bool:
    models = (model.limits for model in farm.models.values())
    of_models = any(limits and (limits.rpm or limits.tpm) for limits in models)
    return of_models or any(provider.rpm for provider in farm.providers.values())


def _router(farm: FarmFile, *, limited: bool) -> RouterSettings:
    routing = farm.proxy.routing
    settings: RouterSettings = {
        "routing_strategy": routing.strategy,
        "num_retries": routing.retries,
        "retry_after": 0,
        "allowed_fails": routing.allowed_fails,
        "cooldown_time": number(routing.cooldown_s),
    }
    if limited:
        settings["enable_pre_call_checks"] = True
        settings["optional_pre_call_checks"] = ["enforce_model_rate_limits"]
    if aliases := {alias: name for name, its in _aliases(farm).items() for alias in its}:
        settings["model_group_alias"] = aliases
    if fallbacks := list(_fallbacks(farm)):
        settings["fallbacks"] = fallbacks
    if farm.proxy.caching.redis:
        settings["redis_host"], settings["redis_port"], settings["redis_password"] = _REDIS.values()
        settings["cache_kwargs"] = {**_ONE_TRY}
    return settings


def _aliases(farm: FarmFile) -> dict[str, tuple[str, ...]]:
    of_models = {name: model.aliases for name, model in farm.models.items()}
    return of_models | {name: provider.aliases for name, provider in farm.providers.items()}


def _fallbacks(farm: FarmFile) -> Iterator[dict[str, list[str]]]:
    aliases = _aliases(farm)
    for name, targets in farm.proxy.fallbacks.items():
        for known_as in (name, *aliases[name]):
            yield {known_as: list(targets)}


def _settings(farm: FarmFile) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "callbacks": [
            *HOOKS,
            *([ROUTING_HOOK] if farm.proxy.routing.strategy == "least-busy" else []),
            *([TRACES] if farm.langfuse else []),
            *([METRICS] if farm.monitoring else []),
        ],
        "request_timeout": number(farm.proxy.routing.timeout_s),
        "telemetry": False,
    }
    if farm.monitoring:
        settings |= gate_metrics.SETTINGS
    caching = farm.proxy.caching
    if caching.redis and caching.answers:
        settings["cache"] = True
        settings["cache_params"] = {"type": "redis", **_REDIS, **_ONE_TRY, "ttl": caching.ttl_s}
    return settings


def _general(farm: FarmFile) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "master_key": from_environment("LITELLM_MASTER_KEY"),
        "database_url": from_environment("DATABASE_URL"),
        "database_connection_pool_limit": 10,
        "background_health_checks": False,  # they are real completions: GPU time, and prompts evicted from caches
        "proxy_batch_write_at": 5,  # s between writes of spend
    }
    if farm.proxy.caching.redis:
        settings["coordination_redis"] = {**_REDIS, **_PATIENCE}
    if farm.proxy.parallel_requests is not None:
        settings["global_max_parallel_requests"] = farm.proxy.parallel_requests
    return settings
