"""What a report shows: figures in tables and plots over time, each with its PromQL.

`$period` stands for the report's whole time, `$window` for what a rate is taken over: at least five minutes, and no
less than the plot's step, so that nothing falls between two points.
"""

from collections.abc import Mapping
from dataclasses import dataclass

GPU_NOTE = "no data: needs an NVIDIA card"
KEYS_NOTE = "no data: no key was used"
NO_DATA = "no data in this time"


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a table. `unit` is one of `units.form`."""

    heading: str
    unit: str
    expression: str


@dataclass(frozen=True, slots=True)
class TableOf:
    """A table with a row for each value of a label; empty, it is its note."""

    title: str
    label: str
    columns: tuple[Column, ...]
    note: str = NO_DATA


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over time. `legend` names labels in braces; `expressions` by what is added to it."""

    title: str
    unit: str
    legend: str
    expressions: Mapping[str, str]
    note: str = NO_DATA
    stacked: bool = False


_TTFT = "gen_ai_server_time_to_first_token_seconds_bucket"
_TPOT = "gen_ai_server_time_per_output_token_seconds_bucket"
_FAILED = 'gpu_server_requests_total{outcome!~"ok|client_gone|client_stalled|bad_request"}'

_REQUESTS = "sum by (model) (increase(gpu_server_requests_total[$period]))"


def _quantile(share: float, metric: str, over: str) -> str:
    return f"histogram_quantile({share}, sum by (model, le) (rate({metric}[{over}])))"


TABLES = (
    TableOf(
        "Models",
        "model",
        (
            Column("requests", "count", _REQUESTS),
            Column("failed", "count", f"sum by (model) (increase({_FAILED}[$period])) or 0 * {_REQUESTS}"),
            Column("prompt tokens", "count", "sum by (model) (increase(gpu_server_tokens_in_total[$period]))"),
            Column(
                "cached",
                "share",
                "sum by (model) (increase(gpu_server_tokens_cached_total[$period]))"
                " / (sum by (model) (increase(gpu_server_tokens_in_total[$period])) > 0)",
            ),
            Column("generated", "count", "sum by (model) (increase(gpu_server_tokens_out_total[$period]))"),
            Column("TTFT, median", "s", _quantile(0.5, _TTFT, "$period")),
            Column("TTFT, 95 of 100", "s", _quantile(0.95, _TTFT, "$period")),
            Column("TPOT, median", "s", _quantile(0.5, _TPOT, "$period")),
        ),
    ),
    TableOf(
        "Keys",
        "api_key_alias",
        (
            Column(
                "requests",
                "count",
                "sum by (api_key_alias) (increase(litellm_proxy_total_requests_metric_total[$period]))",
            ),
            Column(
                "prompt tokens",
                "count",
                "sum by (api_key_alias) (increase(litellm_input_tokens_metric_total[$period]))",
            ),
            Column(
                "tokens generated",
                "count",
                "sum by (api_key_alias) (increase(litellm_output_tokens_metric_total[$period]))",
            ),
            Column("spend", "dollars", "sum by (api_key_alias) (increase(litellm_spend_metric_total[$period]))"),
        ),
        note=KEYS_NOTE,
    ),
    TableOf(
        "Servers",
        "server",
        (
            Column("requests", "count", "sum by (server) (increase(gpu_server_requests_total[$period]))"),
            Column("ready", "share", 'avg_over_time(gpu_server_state{state="ready"}[$period])'),
            Column("llama-servers lost", "count", "sum by (server) (increase(gpu_server_restarts_total[$period]))"),
            Column("not scraped", "share", '1 - avg_over_time(up{job="gpu-server"}[$period])'),
        ),
    ),
    TableOf(
        "GPUs",
        "gpu",
        (
            Column("load, mean", "share", "avg by (gpu) (avg_over_time(gpu_utilization_ratio[$period]))"),
            Column("hottest", "celsius", "max by (gpu) (max_over_time(gpu_temperature_celsius[$period]))"),
            Column("power, mean", "watts", "avg by (gpu) (avg_over_time(gpu_power_watts[$period]))"),
            Column(
                "energy",
                "joules",
                "avg by (gpu) (sum_over_time(gpu_power_watts[$period])"
                " / count_over_time(gpu_power_watts[$period])) * $seconds",
            ),
            Column("Xid errors", "count", "sum by (gpu) (increase(gpu_xid_errors_total[$period]))"),
        ),
        note=GPU_NOTE,
    ),
)

PLOTS = (
    Plot(
        "Requests", "per minute", "{model}",
        {"": "60 * sum by (model) (rate(gpu_server_requests_total[$window]))"},
    ),
    Plot(
        "Requests that failed", "per minute", "{model}: {outcome}",
        {"": f"60 * sum by (model, outcome) (rate({_FAILED}[$window])) > 0"}, note="none failed",
    ),
    Plot(
        "Time to the first token", "s", "{model}, ",
        {"median": _quantile(0.5, _TTFT, "$window"), "95 of 100": _quantile(0.95, _TTFT, "$window")},
    ),
    Plot(
        "Time between tokens", "s", "{model}, ",
        {"median": _quantile(0.5, _TPOT, "$window"), "95 of 100": _quantile(0.95, _TPOT, "$window")},
    ),
    Plot(
        "Tokens", "per second", "{model}, ",
        {
            "read": "sum by (model) (rate(gpu_server_tokens_in_total[$window]))",
            "generated": "sum by (model) (rate(gpu_server_tokens_out_total[$window]))",
        },
    ),
    Plot(
        "Slots", "slots", "{model}, ",
        {
            "in use": "sum by (model) (avg_over_time(gpu_server_in_flight[$window]))",
            "waiting": "sum by (model) (max_over_time(gpu_server_queued[$window]))",
            "there": "corral:model_slots:sum",
        },
    ),
    Plot(
        "llama-servers lost", "in 5 min, or a step", "{server}: {cause}",
        {"": "sum by (server, cause) (increase(gpu_server_restarts_total[$window])) > 0"}, note="none was lost",
    ),
    Plot(
        "Firing alerts", "alerts", "{alertname}",
        {"": 'sum by (alertname) (ALERTS{alertstate="firing", alertname!="DeadMansSwitch"})'}, note="none fired",
    ),
    Plot(
        "Power", "W", "{gpu}", {"": "avg by (gpu) (avg_over_time(gpu_power_watts[$window]))"},
        note=GPU_NOTE, stacked=True,
    ),
    Plot(
        "Temperature", "°C", "{gpu}", {"": "max by (gpu) (max_over_time(gpu_temperature_celsius[$window]))"},
        note=GPU_NOTE,
    ),
    Plot(
        "Energy for 1,000 tokens", "J", "{model}", {"": "corral:model_energy_joules_per_1000_tokens:rate5m"},
        note=GPU_NOTE,
    ),
    Plot(
        "Spend by key", "$ an hour", "{api_key_alias}",
        {"": "3600 * sum by (api_key_alias) (rate(litellm_spend_metric_total[$window]))"},
        note=KEYS_NOTE, stacked=True,
    ),
)  # fmt: skip
