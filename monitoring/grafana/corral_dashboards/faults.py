"""Logs of faults: what broke, when, why, and whether anybody was told."""

from corral_dashboards.view import Dashboard, firing_alerts, lines

_OF = '{host=~"$host", model=~"$model"}'

FAULTS = Dashboard(
    "corral-faults",
    "Faults",
    "What broke, when and why. The words are in the logs: make logs, or docker compose logs.",
    ("host", "model", "runbooks"),
    (
        firing_alerts(),
        lines(
            "Alerts over time", "short",
            ('sum by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}"), width=12,
        ),
        lines(
            "llama-servers lost, by cause", "short",
            (f"sum by (server, cause) (increase(gpu_server_restarts_total{_OF}[1h]))", "{{server}} {{cause}}"),
            about="In the hour before each point.", width=12,
        ),
        lines(
            "Servers that do not serve", "short",
            (f'1 - max by (server) (gpu_server_state{_OF[:-1]}, state="ready"}})', "{{server}}"),
        ),
        lines(
            "Requests by outcome", "reqps",
            (
                f"sum by (outcome) (rate(gpu_server_requests_total{_OF}[$__rate_interval]))",
                "{{outcome}}",
            ),
        ),
        lines("Not scraped", "short", ("1 - up", "{{job}} {{instance}}")),
        lines(
            "Xid errors", "short",
            ('max by (host, gpu, xid) (gpu_xid_errors_total{host=~"$host"})', "{{host}} {{gpu}} Xid {{xid}}"),
        ),
        lines(
            "Notifications that failed", "short",
            ("sum by (integration) (increase(alertmanager_notifications_failed_total[1h]))", "{{integration}}"),
        ),
        lines(
            "Rules that failed", "short",
            ("sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[1h]))", "{{rule_group}}"),
        ),
    ),
)  # fmt: skip
