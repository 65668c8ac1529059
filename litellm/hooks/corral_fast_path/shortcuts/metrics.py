"""LiteLLM's Prometheus metrics that the configuration has left out: it makes their labels, and then does nothing."""

from typing import Any

from litellm.integrations.prometheus import PrometheusLogger
from litellm.types.integrations.prometheus import NoOpMetric

_allowed_and_used_of_litellm = PrometheusLogger._set_rate_limit_allowed_and_used_gauges
_of_key_of_litellm = PrometheusLogger._set_virtual_key_rate_limit_metrics


def _allowed_and_used(self: Any, *, allowed_gauge: Any, used_gauge: Any, **labels: Any) -> None:
    if not _are_left_out(allowed_gauge, used_gauge):
        _allowed_and_used_of_litellm(self, allowed_gauge=allowed_gauge, used_gauge=used_gauge, **labels)


def _of_key(self: Any, **labels: Any) -> None:
    if not _are_left_out(
        self.litellm_remaining_api_key_requests_for_model, self.litellm_remaining_api_key_tokens_for_model
    ):
        _of_key_of_litellm(self, **labels)


def _are_left_out(*metrics: Any) -> bool:
    return all(isinstance(metric, NoOpMetric) for metric in metrics)


def install() -> None:
    """Put them in the place of LiteLLM's."""
    PrometheusLogger._set_rate_limit_allowed_and_used_gauges = _allowed_and_used
    PrometheusLogger._set_virtual_key_rate_limit_metrics = _of_key
