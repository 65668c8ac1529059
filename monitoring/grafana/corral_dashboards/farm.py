"""Farm at a glance."""

from corral_dashboards.view import Dashboard, firing_alerts, lines, number

_CPU = '1 - avg by (host) (rate(node_cpu_seconds_total{mode="idle", host=~"$host"}[$__rate_interval]))'

FARM = Dashboard(
    "corral-farm",
    "Farm at a glance",
    "Is everything well, and how busy is it?",
    ("model", "host", "runbooks"),
    (
        number("Servers ready", "short", 'sum(gpu_server_state{state="ready"})'),
        number("Servers promised", "short", "sum(corral_model_servers)", "What the farm file says."),
        number("Requests now", "reqps", "sum(corral:model_requests:rate5m)"),
        number("Tokens now", "short", "sum(corral:model_tokens_out:rate5m)", "Generated a second."),
        number("Requests that wait", "short", "sum(corral:model_queued:sum)"),
        number("Alerts", "short", 'count(ALERTS{alertstate="firing", severity!="none"}) or vector(0)'),
        lines("Requests", "reqps", ('corral:model_requests:rate5m{model=~"$model"}', "{{model}}")),
        lines("Tokens generated", "short", ('corral:model_tokens_out:rate5m{model=~"$model"}', "{{model}}")),
        lines(
            "Time to first token", "s",
            ('corral:model_ttft_seconds:p95_5m{model=~"$model"}', "{{model}} 95 %"),
            about="Streamed answers; the objective is 5 s for 95 %.",
        ),
        lines("Slots in use", "percentunit", ('corral:model_slots_busy:ratio{model=~"$model"}', "{{model}}")),
        lines("Errors", "percentunit", ('corral:model_errors:ratio_rate5m{model=~"$model"}', "{{model}}")),
        lines("GPU utilisation", "percentunit", ('corral:gpu_utilization:max{host=~"$host"}', "{{host}} {{gpu}}")),
        lines(
            "Host CPU", "percentunit",
            (_CPU, "{{host}}"),
        ),
        lines(
            "Host memory in use", "percentunit",
            ('1 - node_memory_MemAvailable_bytes{host=~"$host"} / node_memory_MemTotal_bytes', "{{host}}"),
        ),
        lines(
            "State of servers", "short",
            ('sum by (state) (gpu_server_state{host=~"$host", model=~"$model"})', "{{state}}"),
        ),
        firing_alerts(),
    ),
)  # fmt: skip
