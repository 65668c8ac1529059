"""The wrapper's Prometheus metrics (contract 4).

Latencies carry the OpenTelemetry GenAI names. What is a state rather than an event is read when scraped, from memory:
a scrape never waits for llama-server.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gpu_server.admission import Admission
from gpu_server.exchange import Exchange
from gpu_server.poller import Reading
from gpu_server.routes import Route
from gpu_server.states import Cause, Snapshot, StateName
from gpu_server.usage import Rate

# Boundaries of the OpenTelemetry GenAI semantic conventions.
_FIRST_TOKEN_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
    60.0,
)
# OpenTelemetry's begin at 10 ms, where a card of a data centre is at its slowest: finer ones before and between.
_PER_TOKEN_S = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
_DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
_QUEUE_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RATE_WINDOW_TOKENS = 2000


@dataclass(frozen=True)
class Sources:
    """Where the gauges are read when scraped."""

    snapshot: Callable[[], Snapshot]
    losses: Callable[[], Mapping[Cause, int]]
    reading: Callable[[], Reading]
    admission: Admission
    engine: str


class Meter:
    """Counts requests as they end, and keeps the speeds that /status reports."""

    def __init__(self, registry: CollectorRegistry, model: str, routes: Mapping[str, Route], sources: Sources) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped upstream; one more series each for nothing
        self.decode_rate = Rate(_RATE_WINDOW_TOKENS)
        self.prefill_rate = Rate(_RATE_WINDOW_TOKENS)
        names = ("gen_ai_operation_name", "gen_ai_request_model")
        first = Histogram(
            "gen_ai_server_time_to_first_token_seconds", "From a request's arrival to the first byte of its stream.",
            names, buckets=_FIRST_TOKEN_S, registry=registry,
        )  # fmt: skip
        per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds", "Time between output tokens.",
            names, buckets=_PER_TOKEN_S, registry=registry,
        )  # fmt: skip
        duration = Histogram(
            "gen_ai_server_request_duration_seconds", "From a request's arrival to its end.",
            names, buckets=_DURATION_S, registry=registry,
        )  # fmt: skip
        operations = sorted(route.operation for route in routes.values() if route.takes_slot)
        self._first = {name: first.labels(name, model) for name in operations}
        self._per_token = {name: per_token.labels(name, model) for name in operations}
        self._duration = {name: duration.labels(name, model) for name in operations}
        self._requests = Counter("gpu_server_requests", "Requests by outcome.", ("outcome",), registry=registry)
        self._requests.labels("ok")
        self._queue = Histogram(
            "gpu_server_queue_wait_seconds", "Wait for a slot.", buckets=_QUEUE_S, registry=registry
        )
        self._tokens_in = Counter("gpu_server_tokens_in", "Prompt tokens, cached ones included.", registry=registry)
        self._tokens_cached = Counter("gpu_server_tokens_cached", "Prompt tokens found in cache.", registry=registry)
        self._tokens_out = Counter("gpu_server_tokens_out", "Tokens generated.", registry=registry)
        registry.register(_StateCollector(sources))

    def finish(self, exchange: Exchange, ended: float) -> None:
        """Count one request that ended."""
        operation = exchange.route.operation
        took_s = ended - exchange.started
        self._requests.labels(exchange.outcome).inc()
        if operation not in self._duration:
            return  # a small question beside the model's work
        self._duration[operation].observe(took_s)
        if exchange.queue_s is not None:
            self._queue.observe(exchange.queue_s)
        if exchange.time_to_first_token_s is not None:
            self._first[operation].observe(exchange.time_to_first_token_s)
        if exchange.time_per_output_token_s is not None:
            self._per_token[operation].observe(exchange.time_per_output_token_s)
        self._count_tokens(exchange, ended)

    def _count_tokens(self, exchange: Exchange, ended: float) -> None:
        usage = exchange.usage
        if usage is None:
            return
        self._tokens_in.inc(usage.tokens_in)
        self._tokens_cached.inc(usage.tokens_cached)
        self._tokens_out.inc(usage.tokens_out)
        self.decode_rate.add(usage.tokens_out, usage.predicted_ms)
        prompt_ms = usage.prompt_ms
        if prompt_ms is None and not usage.tokens_out and exchange.entered is not None:
            prompt_ms = (ended - exchange.entered) * 1000  # embeddings are all prefill, and carry no timings
        self.prefill_rate.add(usage.tokens_in - usage.tokens_cached, prompt_ms)


class _StateCollector(Collector):
    """Gauges and counters that are kept elsewhere, read when scraped."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        admission = self._sources.admission
        yield GaugeMetricFamily("gpu_server_slots", "Requests answered at the same time at most.", admission.slots)
        yield GaugeMetricFamily("gpu_server_in_flight", "Requests that hold a slot.", admission.busy)
        yield GaugeMetricFamily("gpu_server_queued", "Requests that wait for a slot.", admission.queued)
        snapshot = self._sources.snapshot()
        state = GaugeMetricFamily("gpu_server_state", "1 for the present state, else 0.", labels=["state"])
        for name in get_args(StateName):
            state.add_metric([name], float(snapshot.state == name))
        yield state
        yield GaugeMetricFamily("gpu_server_generation", "How often llama-server was started.", snapshot.generation)
        restarts = CounterMetricFamily("gpu_server_restarts", "llama-servers lost, by cause.", labels=["cause"])
        losses = self._sources.losses()
        for cause in Cause:
            restarts.add_metric([cause.value], losses.get(cause, 0))
        yield restarts
        yield from self._llama()

    def _llama(self) -> Iterator[Metric]:
        reading = self._sources.reading()
        info = GaugeMetricFamily("gpu_server_llama_build_info", "The llama-server in use.", labels=["build", "engine"])
        info.add_metric([reading.build or "unknown", self._sources.engine], 1)
        yield info
        yield GaugeMetricFamily(
            "gpu_server_llama_busy_slots", "Slots llama-server said were working.", reading.busy_slots
        )
        for name, value in sorted(reading.counters.items()):
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(
                f"gpu_server_llama_{name.removesuffix('_total')}", "llama-server's own, from the last poll.", value
            )
