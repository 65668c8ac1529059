"""Capacity: what is left, and what one more application would take."""

from corral_dashboards.view import Dashboard, lines, number

_MEAN_S = (
    'sum by (model) (rate(gen_ai_server_request_duration_seconds_sum{model=~"$model"}[1h]))'
    ' / sum by (model) (rate(gen_ai_server_request_duration_seconds_count{model=~"$model"}[1h]))'
)
_SLOTS_FREE = (
    'avg_over_time(corral:model_slots:sum{model=~"$model"}[1h])'
    ' - avg_over_time(corral:model_in_flight:sum{model=~"$model"}[1h])'
)
_NEEDED = f"$requests_per_minute / 60 * ({_MEAN_S})"

CAPACITY = Dashboard(
    "corral-capacity",
    "Capacity",
    "How much room is left at the busiest hour, and what a new application would cost.",
    ("model", "host", "requests_per_minute"),
    (
        number("Slots free now", "short", 'sum(corral:model_slots:sum{model=~"$model"} - corral:model_in_flight:sum)'),
        number(
            "Slots in use at the worst moment of a day", "percentunit",
            'max(max_over_time(corral:model_slots_busy:ratio{model=~"$model"}[1d]))', width=6,
        ),
        number(
            "Longest queue of a day", "short", 'max(max_over_time(corral:model_queued:sum{model=~"$model"}[1d]))',
        ),
        number(
            "Slots that a new application takes", "short", f"sum({_NEEDED})",
            "Its requests a minute (above), each as long as this model's requests were in the last hour: Little's law.",
            width=6,
        ),
        lines(
            "Slots in use, mean of an hour", "percentunit",
            ('avg_over_time(corral:model_slots_busy:ratio{model=~"$model"}[1h])', "{{model}}"), width=12,
        ),
        lines(
            "Slots left with the new application", "short",
            (
                f"{_SLOTS_FREE} - {_NEEDED}",
                "{{model}}",
            ),
            about="Below 0 it waits, or others do.", width=12,
        ),
        lines(
            "Tokens generated, most of a day", "short",
            ('max_over_time(corral:model_tokens_out:rate5m{model=~"$model"}[1d])', "{{model}}"),
        ),
        lines("Request, mean of an hour", "s", (_MEAN_S, "{{model}}")),
        lines(
            "Energy for 1,000 tokens", "joule",
            ('corral:model_energy_joules_per_1000_tokens:rate5m{model=~"$model"}', "{{model}}"),
        ),
        lines(
            "GPU memory left", "percentunit",
            ('1 - corral:gpu_memory_used:ratio{host=~"$host"}', "{{host}} {{gpu}}"),
        ),
        lines("Host memory left", "bytes", ('node_memory_MemAvailable_bytes{host=~"$host"}', "{{host}}")),
        lines(
            "Disk left", "bytes",
            (
                'node_filesystem_avail_bytes{host=~"$host", fstype!~"tmpfs|overlay|squashfs|ramfs|fuse.*"}',
                "{{host}} {{mountpoint}}",
            ),
        ),
    ),
)  # fmt: skip
