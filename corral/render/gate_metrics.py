"""What LiteLLM's `prometheus` callback is told: which of its metrics are kept, with which labels, and how many series.

Found in the source of LiteLLM 1.106.2, and by scraping it (tests/e2e/test_monitoring.py):

- The callback and `/metrics` need no licence. `/metrics` wants a key (`require_auth_for_metrics_endpoint`, on unless
  told otherwise): it names keys and spend.
- `prometheus_metrics_config` keeps the metrics that it lists and drops all others: some eighty metrics with up to
  fourteen labels each, a client's address and user agent among them, would be a series for every application and host.
- `litellm_deployment_cooled_down` gets its labels' values by place, the model's name first: without that label the name
  stands where the deployment's should.
- A counter over `prometheus_metrics_max_series_per_metric` goes on in one series whose labels all say `other`, so that
  sums stay true; a gauge drops what is over. That bounds a farm with thousands of keys.
- Its gauges of keys' budgets are dropped; corral/render/key_budgets.py says why and what there is instead.
"""

from collections.abc import Mapping
from typing import Any

SERIES_PER_METRIC = 5000

_BY_KEY = ("api_key_alias", "requested_model", "model_id")
_BY_SERVER = ("requested_model", "model_id")


def _group(name: str, labels: tuple[str, ...], *metrics: str) -> dict[str, Any]:
    return {"group": name, "metrics": [f"litellm_{metric}" for metric in metrics], "include_labels": list(labels)}


SETTINGS: Mapping[str, Any] = {
    "prometheus_metrics_config": [
        _group("requests", (*_BY_KEY, "status_code"), "proxy_total_requests_metric"),
        _group("failures", (*_BY_KEY, "exception_status", "exception_class"), "proxy_failed_requests_metric"),
        _group("tokens", _BY_KEY, "input_tokens_metric", "output_tokens_metric", "spend_metric"),
        _group("latency", _BY_SERVER, "request_total_latency_metric", "llm_api_latency_metric"),
        _group("routing", _BY_SERVER, "deployment_success_responses"),
        _group("refusals", (*_BY_SERVER, "exception_status", "exception_class"), "deployment_failure_responses"),
        _group("deployments", ("model_id",), "deployment_state"),
        _group("cooldowns", ("litellm_model_name", "model_id"), "deployment_cooled_down"),
        _group(
            "fallbacks", ("requested_model", "fallback_model"),
            "deployment_successful_fallbacks", "deployment_failed_fallbacks",
        ),
        _group("callbacks", ("callback_name",), "callback_logging_failures_metric"),
    ],
    "prometheus_metrics_max_series_per_metric": SERIES_PER_METRIC,
}  # fmt: skip
