"""What `recognition` and `shortcuts` call of LiteLLM or stand in for, and how: see `guard.py`."""

from corral_fast_path.guard import Internal

_PROXY = "litellm.proxy.proxy_server"
_UTILS = "litellm.proxy.utils"
_PAYLOAD = "litellm.litellm_core_utils.litellm_logging"
_WRITER = "litellm.proxy.db.db_spend_update_writer"
_PRE_CALL = "litellm.proxy.litellm_pre_call_utils"
_TYPES_OF_PRE_CALL = "litellm.types.proxy.litellm_pre_call_utils"
_SAVINGS = (
    "model", "custom_llm_provider", "compression_saved_tokens", "gateway_injected_cache", "routing_decision",
    "model_id", "llm_router", "usage_object", "cost_breakdown", "recorded_autorouter_savings",
    "recorded_autorouter_savings_estimate", "billed_at",
)  # fmt: skip
_COST = (
    "completion_response", "model", "call_type", "custom_llm_provider", "optional_params", "custom_pricing",
    "base_model", "prompt", "standard_built_in_tools_params", "litellm_model_name", "router_model_id",
    "litellm_logging_obj", "service_tier", "data_residency", "vertex_location", "region_name",
)  # fmt: skip
_BREAKDOWN = (
    "input_cost", "output_cost", "total_cost", "cost_for_built_in_tools_cost_usd_dollar", "original_cost",
    "discount_percent", "discount_amount", "margin_percent", "margin_fixed_amount", "margin_total_amount",
    "cache_read_cost", "cache_creation_cost", "reasoning_cost", "billed_token_rates",
)  # fmt: skip
_AUTOROUTER = (
    "request_metadata", "model", "custom_llm_provider", "model_id", "usage_object", "cost_breakdown",
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
    Internal(_WRITER, "DBSpendUpdateWriter._enqueue_autorouter_turn_transaction", positional=4),
    Internal(
        _WRITER,
        "DBSpendUpdateWriter._enqueue_autorouter_turn_transaction",
        ("payload", "prisma_client", "spend_logs_kept"),
        1,
    ),
    Internal("litellm.proxy.db.model_usage_rollup", "_is_internal_call", positional=1),
    Internal("litellm.proxy.db.spend_log_tool_index", "response_tool_call_names", positional=1),
    Internal("litellm.litellm_core_utils.litellm_logging", "_autorouter_savings_for_payload", _AUTOROUTER),
    Internal("litellm.litellm_core_utils.litellm_logging", "Logging.set_cost_breakdown", _BREAKDOWN, 1),
    Internal("litellm.cost_calculator", "completion_cost", _COST),
    Internal(
        "litellm.litellm_core_utils.litellm_logging",
        "Logging.get_combined_callback_list",
        ("dynamic_success_callbacks", "global_callbacks"),
        1,
    ),
    Internal(
        "litellm.integrations.custom_logger",
        "CustomLogger.redact_standard_logging_payload_from_model_call_details",
        ("model_call_details",),
        1,
    ),
    *(
        Internal("litellm.integrations.custom_logger", f"CustomLogger.{name}", None)
        for name in ("async_logging_hook", "async_log_success_event", "async_log_stream_event")
    ),
    *(
        Internal("litellm", name, None)
        for name in (
            "_async_success_callback",
            "standard_logging_payload_excluded_fields",
            "_known_custom_logger_compatible_callbacks",
        )
    ),
    *(Internal("litellm", name, None) for name in ("model_cost", "cost_discount_config", "cost_margin_config")),
    *(
        Internal(
            "litellm.proxy.hooks.parallel_request_limiter_v3",
            f"_PROXY_MaxParallelRequestsHandler_v3.{name}",
            positional=positional,
        )
        for name, positional in (("_key_owns_model_tpm_limit_from_request_metadata", 3), ("_key_owns_model_limit", 4))
    ),
    Internal(
        "litellm.proxy.common_request_processing",
        "add_litellm_data_to_request",
        ("data", "request", "user_api_key_dict", "proxy_config", "general_settings", "version"),
    ),
    Internal(_PRE_CALL, "refresh_proxy_server_request_body_snapshot", positional=1),
    *(Internal(_TYPES_OF_PRE_CALL, name, None) for name in ("RedactedDict", "SecretFields")),
    Internal("litellm.proxy.common_utils.callback_utils", "strip_callback_config", positional=1),
    Internal("litellm.proxy.common_utils.http_parsing_utils", "safe_get_request_headers", positional=1),
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
    Internal("litellm.caching.in_memory_cache", "InMemoryCache.get_cache", positional=2),
    Internal("litellm.caching.in_memory_cache", "InMemoryCache.evict_element_if_expired", positional=2),
    Internal("litellm.caching.dual_cache", "DualCache.async_get_cache", positional=4),
    Internal("litellm.integrations.shadow_eval_logger", "ShadowEvalLogger._active_jobs", positional=1),
    Internal("litellm.integrations.shadow_eval_logger", "_JOBS_CACHE_KEY", None),
    Internal(_UTILS, "PrismaClient.get_request_status", positional=2),
    Internal(_UTILS, "PrismaClient.jsonify_object", positional=2),
    Internal(_WRITER, "copy.deepcopy", positional=1),
    *(Internal(_WRITER, f"json.{name}", positional=1) for name in ("loads", "dumps")),
    Internal(_UTILS, "check_and_merge_model_level_guardrails", positional=4),
    Internal("litellm.proxy.guardrails.usage_tracking", "_parse_guardrail_info_from_payload", positional=1),
    Internal("litellm.proxy._lazy_features", "LAZY_FEATURES", None),
    Internal("litellm.proxy._lazy_features", "LazyFeatureMiddleware.__call__", positional=4),
    Internal("litellm.proxy.auth.auth_utils", "get_request_route", positional=1),
    Internal("litellm.proxy.common_request_processing", "get_request_route", positional=1),
    Internal("litellm._internal_context", "service_target", positional=1),
    Internal("litellm._internal_context", "_service_target", None),
    Internal("litellm.router", "Router.print_deployment", positional=2),
    Internal(
        _PAYLOAD,
        "Logging._zero_cost_finding",
        ("calculation_failed", "litellm_model_name", "router_model_id"),
        3,
    ),
    *(
        Internal(module, "should_store_prompts_and_responses_in_spend_logs")
        for module in (
            "litellm.proxy.spend_tracking.spend_tracking_utils",
            "litellm.proxy.hooks.proxy_track_cost_callback",
        )
    ),
    Internal(_PAYLOAD, "StandardLoggingPayloadSetup.get_error_information", positional=2),
    Internal("prisma.builder", "dumps", positional=1, needs="prisma.builder"),
    Internal("prisma.builder", "indent", positional=2, needs="prisma.builder"),
)
