"""The gate and what stands beside it: LiteLLM, external providers, monitoring, traces."""

from typing import Literal

from pydantic import Field

from corral.farm.values import Address, HttpsUrl, Image, ModelName, Name, Part, Plain, Port, Variable


class Routing(Part):
    """How the gate picks a server, and when it tries another."""

    strategy: Literal["least-busy", "simple-shuffle", "latency-based-routing", "usage-based-routing-v2"] = Field(
        default="least-busy", description="LiteLLM's routing strategy."
    )
    retries: int = Field(default=2, ge=0, le=20, description="Further tries, on another server.")
    cooldown_s: float = Field(default=5, ge=0, description="How long a server that failed is left alone.")
    allowed_fails: int = Field(default=3, ge=0, description="Failures a minute before it is.")
    timeout_s: float = Field(default=600, gt=0, description="Longest answer.")


class Caching(Part):
    """What the gate keeps in Redis: counters that its workers share, and whole answers to what is asked twice."""

    redis: bool = Field(
        default=False, description="Keep counters of limits, budgets and load of several workers in Redis."
    )
    answers: bool = Field(
        default=True,
        description="With redis: keep whole answers too; then all requests go LiteLLM's own way.",
    )
    ttl_s: int = Field(default=600, ge=1, description="How long an answer is kept.")


class Proxy(Part):
    """The LiteLLM proxy: the one address that applications know."""

    host: Name | None = Field(default=None, description="A name of `hosts`; unset: the only one.")
    listen: Address = Field(default="127.0.0.1", description="Address it listens on; 0.0.0.0 for a whole network.")
    port: Port = Field(default=4000, description="The gate's port.")
    database_port: Port = Field(default=15432, description="PostgreSQL's; runtime: processes only.")
    workers: int = Field(default=1, ge=1, le=64, description="LiteLLM's processes; more than one needs caching.redis.")
    routing: Routing = Field(default=Routing(), description="How it picks a server.")
    parallel_requests: int | None = Field(default=None, ge=1, description="Requests at a time, of all keys together.")
    caching: Caching = Field(default=Caching(), description="Whether answers are kept.")
    fallbacks: dict[ModelName, tuple[ModelName, ...]] = Field(
        default={}, description="What to ask when no server of a model answers: models of the farm, or providers."
    )
    image: Image = Field(
        default="ghcr.io/berriai/litellm-database:v1.106.2", description="LiteLLM's image with its database client."
    )
    memory_mib: int = Field(default=2048, ge=512, description="Limit of its container.")


class Provider(Part):
    """A model elsewhere, by LiteLLM's name of it. Its key comes from the environment, never from this file."""

    model: Plain = Field(min_length=1, description="LiteLLM's name.", examples=["openai/gpt-4o-mini"])
    api_key_env: Variable | None = Field(default=None, description="Environment variable with its key.")
    api_base: str | None = Field(
        default=None, pattern=r"^https?://[A-Za-z0-9.:/_-]{1,300}$", description="Its address, where not the usual one."
    )
    rpm: int | None = Field(default=None, ge=1, description="Requests a minute.")
    aliases: tuple[ModelName, ...] = Field(default=(), description="Further names.")


class Monitoring(Part):
    """Prometheus, Alertmanager and Grafana."""

    host: Name | None = Field(default=None, description="A name of `hosts`; unset: the proxy's.")
    listen: Address = Field(default="127.0.0.1", description="Address of its ports.")
    prometheus_port: Port = Field(default=9090, description="Prometheus.")
    alertmanager_port: Port = Field(default=9093, description="Alertmanager.")
    grafana_port: Port = Field(default=3000, description="Grafana.")
    scrape_interval_s: int = Field(default=15, ge=1, le=600, description="How often servers are asked.")
    retention_days: int = Field(default=30, ge=1, le=3650, description="How long series are kept.")
    probes: tuple[HttpsUrl, ...] = Field(
        default=(),
        description="Addresses behind what ends TLS: each must answer 2xx without a key; its certificate is watched.",
        examples=[["https://gate.example/health/liveliness"]],
    )


class Langfuse(Part):
    """Traces of requests: figures, and prompts and answers only where the farm or a key says so.

    With `host` its containers are rendered; without, `url` says where one runs already.
    """

    host: Name | None = Field(default=None, description="A name of `hosts`, to run it there; unset: it is elsewhere.")
    url: str | None = Field(
        default=None,
        pattern=r"^https?://[A-Za-z0-9.:/_-]{1,300}$",
        description="Its address; unset: that of `host`. With both, how people and the gate reach it: TLS before it.",
    )
    listen: Address | None = Field(default=None, description="Address of its port on `host`; unset: the host's own.")
    port: Port = Field(default=3001, description="Its port on `host`.")
    content: bool = Field(
        default=False, description="Whether prompts and answers are traced, of keys that say nothing else."
    )
    sample: float = Field(default=1, gt=0, le=1, description="The share of requests that is traced.")
    public_key_env: Variable = Field(default="LANGFUSE_PUBLIC_KEY", description="Environment variable of its key.")
    secret_key_env: Variable = Field(default="LANGFUSE_SECRET_KEY", description="Environment variable of its secret.")
