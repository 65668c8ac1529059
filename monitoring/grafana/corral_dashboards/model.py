"""Model: how fast it answers, and what it waits for."""

from corral_dashboards.view import Dashboard, lines

_BY_SERVER = 'sum by (server) (rate(gpu_server_tokens_out_total{model=~"$model", host=~"$host"}[$__rate_interval]))'

MODEL = Dashboard(
    "corral-model",
    "Model",
    "Latency, queue, cache and tokens of one model.",
    ("model", "host"),
    (
        lines(
            "Time to first token", "s",
            ('corral:model_ttft_seconds:p50_5m{model=~"$model"}', "{{model}} 50 %"),
            ('corral:model_ttft_seconds:p95_5m{model=~"$model"}', "{{model}} 95 %"),
            about="From arrival at the server to the first byte of a stream, waiting included.",
        ),
        lines(
            "Time per output token", "s",
            ('corral:model_tpot_seconds:p50_5m{model=~"$model"}', "{{model}} 50 %"),
            ('corral:model_tpot_seconds:p95_5m{model=~"$model"}', "{{model}} 95 %"),
        ),
        lines("Whole request", "s", ('corral:model_duration_seconds:p95_5m{model=~"$model"}', "{{model}} 95 %")),
        lines(
            "Wait for a slot", "s", ('corral:model_queue_wait_seconds:p95_5m{model=~"$model"}', "{{model}} 95 %"),
            about="As long as the time to first token: slots are missing. Much shorter: prompts are long.",
        ),
        lines(
            "Slots and queue", "short",
            ('corral:model_slots:sum{model=~"$model"}', "{{model}} slots"),
            ('corral:model_in_flight:sum{model=~"$model"}', "{{model}} in use"),
            ('corral:model_queued:sum{model=~"$model"}', "{{model}} waiting"),
        ),
        lines(
            "Prompt tokens found in cache", "percentunit",
            ('corral:model_tokens_cached:ratio_rate5m{model=~"$model"}', "{{model}}"),
        ),
        lines(
            "Tokens a second", "short",
            ('corral:model_tokens_in:rate5m{model=~"$model"}', "{{model}} read"),
            ('corral:model_tokens_out:rate5m{model=~"$model"}', "{{model}} generated"),
        ),
        lines("Tokens generated, by server", "short", (_BY_SERVER, "{{server}}")),
        lines(
            "Requests by outcome", "reqps",
            (
                'sum by (outcome) (rate(gpu_server_requests_total{model=~"$model", host=~"$host"}[$__rate_interval]))',
                "{{outcome}}",
            ),
        ),
        lines(
            "Answers later than 5 s", "percentunit",
            ('corral:model_ttft_late:ratio_rate5m{model=~"$model"}', "{{model}} 5 min"),
            ('corral:model_ttft_late:ratio_rate1h{model=~"$model"}', "{{model}} 1 h"),
            about="The objective allows 5 %.",
        ),
        lines(
            "llama-server: slots at work", "short",
            ('gpu_server_llama_busy_slots{model=~"$model", host=~"$host"}', "{{server}}"),
        ),
        lines(
            "llama-servers started", "short",
            ('gpu_server_generation{model=~"$model", host=~"$host"}', "{{server}}"),
        ),
    ),
)  # fmt: skip
