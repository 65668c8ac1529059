"""What `recognition` and `shortcuts` call of LiteLLM or stand in for, and how: see `guard.py`."""

from corral_fast_path.guard import Internal

_PROXY = "litellm.proxy.proxy_server"
_WRITER = "litellm.proxy.db.db_spend_update_writer"
_SAVINGS = (
    "model", "custom_llm_provider", "compression_saved_tokens", "gateway_injected_cache", "routing_decision",
    "model_id", "llm_router", "usage_object", "cost_breakdown", "recorded_autorouter_savings",
    "recorded_autorouter_savings_estimate", "billed_at",
)  # fmt: skip

OF_SHORTCUTS = (
    *(Internal(_PROXY, name, None) for name in ("open_telemetry_logger", "user_custom_auth")),
    Internal("litellm.proxy._types", "UserAPIKeyAuth", None),
    Internal("litellm.proxy._types", "LitellmUserRoles.PROXY_ADMIN", None),
    Internal("litellm.proxy._types", "hash_token", positional=1),
    Internal(_PROXY, "user_api_key_cache.in_memory_cache_for", positional=1),
    Internal(_WRITER, "compute_savings_spend", _SAVINGS),
    Internal(
        _WRITER,
        "DBSpendUpdateWriter._common_add_spend_log_transaction_to_daily_transaction",
        ("payload", "prisma_client", "type"),
        1,
    ),
    Internal("litellm.proxy.db.daily_spend_bulk_upsert", "daily_spend_entity_ids", positional=2),
    Internal("litellm.proxy.spend_tracking.savings", "extract_cache_creation_tokens", positional=1),
    Internal("litellm.proxy.spend_tracking.savings", "extract_cache_read_tokens", positional=1),
    Internal("litellm.proxy.db.spend_log_batching", "_row_payload_bytes", positional=1),
    Internal("litellm.proxy.spend_tracking.spend_tracking_utils", "safe_dumps", positional=1),
    Internal(
        "litellm.litellm_core_utils.get_llm_provider_logic",
        "get_llm_provider",
        ("model", "custom_llm_provider", "api_base", "api_key", "litellm_params"),
    ),
    Internal("litellm", "get_llm_provider", ("model", "custom_llm_provider")),
    Internal("litellm", "service_callback", None),
    Internal("litellm.proxy.common_utils.cache_pydantic_utils", "CacheCodec.deserialize", ("model_type",), 1),
    Internal("litellm.proxy.auth.route_checks", "RouteChecks.is_management_route", ("route",)),
    Internal(
        "litellm._service_logger", "ServiceLogging.async_service_success_hook", ("service", "call_type", "duration"), 1
    ),
    Internal(
        "litellm.router",
        "Router._increment_deployment_usage",
        ("deployment_id", "deployment_name", "model_group", "total_tokens", "rpm_increment", "parent_otel_span"),
        1,
    ),
    Internal("litellm.router", "Router.deployment_callback_on_success", positional=5),
    Internal("litellm.router", "Router.get_deployment", ("model_id",), 1),
    Internal("litellm.router", "Router.get_router_model_info", ("deployment", "received_model_name"), 1),
    Internal(
        "litellm.router_utils.router_callbacks.track_deployment_metrics",
        "increment_deployment_successes_for_current_minute",
        ("litellm_router_instance", "deployment_id"),
    ),
    Internal(
        "litellm_enterprise.enterprise_callbacks.callback_controls",
        "EnterpriseCallbackControls.is_callback_disabled_dynamically",
        ("callback", "litellm_params", "standard_callback_dynamic_params"),
        needs="litellm_enterprise",
    ),
    Internal(
        "litellm_enterprise.enterprise_callbacks.callback_controls",
        "EnterpriseCallbackControls.get_disabled_callbacks",
        positional=2,
        needs="litellm_enterprise",
    ),
    Internal(
        "litellm.integrations.prometheus",
        "PrometheusLogger._set_rate_limit_allowed_and_used_gauges",
        (
            "standard_logging_payload",
            "enum_values",
            "descriptor_key",
            "header_rate_limit_type",
            "metric_name",
            "allowed_gauge",
            "used_gauge",
            "rate_limit_type",
        ),
        1,
        needs="prometheus_client",
    ),
    Internal(
        "litellm.integrations.prometheus",
        "PrometheusLogger._set_virtual_key_rate_limit_metrics",
        ("user_api_key", "user_api_key_alias", "kwargs", "metadata", "model_id"),
        1,
        needs="prometheus_client",
    ),
    Internal("litellm.types.integrations.prometheus", "NoOpMetric", None),
)
