"""Prometheus metrics of the router, where prometheus_client is installed; without it, nothing is counted.

With several workers, each counts its own: set PROMETHEUS_MULTIPROC_DIR (prometheus_client's) to have them added up.
"""

import os
from collections.abc import Callable
from types import ModuleType

from corral_routing.choice import Choice
from corral_routing.router import Pick, Usage

try:
    import prometheus_client
except ImportError:
    prometheus: ModuleType | None = None
else:
    prometheus = prometheus_client

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Counts picks, answers and errors. `staleness` gives the age of each server's report in seconds when scraped."""

    def __init__(self, staleness: Callable[[], dict[str, float]]) -> None:
        self._staleness = staleness
        self._registry = None
        if prometheus is None:
            return
        registry = self._registry = prometheus.CollectorRegistry()
        self._picks = prometheus.Counter(
            "corral_routing_picks", "Requests by the server chosen and why.", ["server", "reason"], registry=registry
        )
        self._passed_on = prometheus.Counter(
            "corral_routing_passed_on",
            "Requests left to LiteLLM: after an error here (error), or as no server could take them (out).",
            ["cause"],
            registry=registry,
        )
        for cause in ("error", "out"):  # a series that begins with its first event has no rate of it
            self._passed_on.labels(cause)
        self._refused = prometheus.Counter(
            "corral_routing_refused", "Requests refused because all servers were full.", registry=registry
        )
        self._failures = prometheus.Counter(
            "corral_routing_failures",
            "Requests that a server failed or refused.",
            ["server", "cause"],
            registry=registry,
        )
        self._error = prometheus.Histogram(
            "corral_routing_estimate_error_seconds",
            "Distance between the estimated and the actual time to the first token of streams.",
            ["server"],
            buckets=SECONDS,
            registry=registry,
        )
        self._prompt = prometheus.Counter(
            "corral_routing_prompt_tokens", "Prompt tokens of answers that told their cache hits.", registry=registry
        )
        self._cached = prometheus.Counter(
            "corral_routing_cached_tokens", "Of these, those found in a prompt cache.", registry=registry
        )
        self._expected = prometheus.Counter(
            "corral_routing_expected_cached_tokens", "Of these, those expected in a prompt cache.", registry=registry
        )
        self._age = prometheus.Gauge(
            "corral_routing_report_age_seconds",
            "Age of a server's last report.",
            ["server"],
            registry=registry,
            multiprocess_mode="min",
        )

    def picked(self, choice: Choice) -> None:
        """Count a choice."""
        if self._registry is not None:
            self._picks.labels(choice.chosen.name, choice.reason.value).inc()

    def passed_on(self, cause: str) -> None:
        """Count a request that LiteLLM chooses for: `error` or `out`."""
        if self._registry is not None:
            self._passed_on.labels(cause).inc()

    def refused(self) -> None:
        """Count a request refused because all servers were full."""
        if self._registry is not None:
            self._refused.inc()

    def failed(self, server: str, cause: str) -> None:
        """Count a request that a server failed: `failed` or `full`."""
        if self._registry is not None:
            self._failures.labels(server, cause).inc()

    def answered(self, pick: Pick, usage: Usage) -> None:
        """Count an answer against what was expected of it."""
        if self._registry is None:
            return
        if usage.first_token_s is not None:
            self._error.labels(pick.server).observe(abs(usage.first_token_s - pick.choice.chosen.first_token_s))
        if usage.prompt_tokens and usage.cached_tokens is not None:
            self._prompt.inc(usage.prompt_tokens)
            self._cached.inc(min(usage.cached_tokens, usage.prompt_tokens))
            self._expected.inc(min(pick.expected_cached, usage.prompt_tokens))

    def text(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus's text format, and its content type."""
        if prometheus is None or self._registry is None:
            return b"# prometheus_client is not installed\n", "text/plain; version=0.0.4"
        for server, age_s in self._staleness().items():
            self._age.labels(server).set(age_s)
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = prometheus.CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return prometheus.generate_latest(registry), prometheus.CONTENT_TYPE_LATEST
