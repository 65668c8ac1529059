"""Gateway: keys, budgets, spend, errors, and which servers the gate picks."""

from corral_dashboards.view import Dashboard, lines

_KEY = '{api_key_alias=~"$key"}'
_BY_SERVER_LE = "sum by (server, le) (rate({}[$__rate_interval]))"
_OF_PROMPTS = "sum(rate({}[$__rate_interval])) / (sum(rate(corral_routing_prompt_tokens_total[$__rate_interval])) > 0)"
_BY_SERVER = "sum by (server) (rate({}[$__rate_interval]))"

GATE = Dashboard(
    "corral-gate",
    "Gateway",
    "What comes in at the gate: by key and model, at what cost, and where it is sent.",
    ("key",),
    (
        lines(
            "Requests by key", "reqps", ('corral:key_requests:rate5m{api_key_alias=~"$key"}', "{{api_key_alias}}")
        ),
        lines(
            "Tokens by key", "short", ('corral:key_tokens:rate5m{api_key_alias=~"$key"}', "{{api_key_alias}}"),
            about="Read and generated, a second.",
        ),
        lines(
            "Spend by key", "currencyUSD",
            ('3600 * corral:key_spend_dollars:rate1h{api_key_alias=~"$key"}', "{{api_key_alias}}"),
            about="An hour, at the farm file's notional prices.",
        ),
        lines(
            "Budget used", "percentunit",
            ('corral:key_budget_used:ratio{api_key_alias=~"$key"}', "{{api_key_alias}}"),
            about="Keys that have a budget.",
        ),
        lines(
            "Answers by status", "reqps",
            (
                f"sum by (status_code) (rate(litellm_proxy_total_requests_metric_total{_KEY}[$__rate_interval]))",
                "{{status_code}}",
            ),
        ),
        lines(
            "Refused and failed", "reqps",
            (
                f"sum by (exception_class) (rate(litellm_proxy_failed_requests_metric_total{_KEY}[$__rate_interval]))",
                "{{exception_class}}",
            ),
        ),
        lines("Errors of the gate", "percentunit", ("corral:gate_errors:ratio_rate5m", "5xx")),
        lines("Whole request", "s", ("corral:gate_duration_seconds:p95_5m", "{{requested_model}} 95 %")),
        lines(
            "The gate's own share", "s", ("corral:gate_overhead_seconds:mean_5m", "mean"),
            about="The whole request less the wait for the server.",
        ),
        lines(
            "Sent to", "reqps",
            (_BY_SERVER.format("litellm_deployment_success_responses_total"), "{{server}}"),
            about="Routing decisions that were answered, by server.",
        ),
        lines(
            "Refused by", "reqps",
            (_BY_SERVER.format("litellm_deployment_failure_responses_total"), "{{server}}"),
            about="Tries that failed, and were made elsewhere or given up. Without a server: refused by the gate.",
        ),
        lines(
            "Out of service", "short", ("max by (server) (litellm_deployment_state)", "{{server}}"),
            about="0 well, 1 some failures, 2 left alone for a while.",
        ),
        lines(
            "Why a server was picked", "reqps",
            ("sum by (reason) (rate(corral_routing_picks_total[$__rate_interval]))", "{{reason}}"),
            about="cache: it remembers most of the prompt; spread: one that remembers more is busier; load, tie, only.",
        ),
        lines(
            "Prompt found cached", "percentunit",
            (_OF_PROMPTS.format("corral_routing_cached_tokens_total"), "found"),
            (_OF_PROMPTS.format("corral_routing_expected_cached_tokens_total"), "expected"),
            about="Of the prompts' tokens, as answers told it, beside what the routing expected.",
        ),
        lines(
            "Routing's error", "s",
            (
                f"histogram_quantile(0.95, {_BY_SERVER_LE.format('corral_routing_estimate_error_seconds_bucket')})",
                "{{server}} 95 %",
            ),
            about="Between the expected time to the first token and the one that it was.",
        ),
        lines(
            "Not routed by us", "reqps",
            ("sum by (cause) (rate(corral_routing_passed_on_total[$__rate_interval]))", "left to LiteLLM: {{cause}}"),
            ("sum(rate(corral_routing_refused_total[$__rate_interval]))", "refused: all servers full"),
        ),
        lines("Age of reports", "s", ("max by (server) (corral_routing_report_age_seconds)", "{{server}}")),
        lines("Requests in the gate", "short", ("sum(litellm_in_flight_requests)", "in flight")),
        lines(
            "Database connections", "short",
            ("sum(pg_stat_activity_count)", "in use"), ("max(pg_settings_max_connections)", "limit"),
        ),
        lines(
            "Gate's memory", "bytes", ('process_resident_memory_bytes{job="litellm"}', "resident"),
        ),
    ),
)  # fmt: skip
