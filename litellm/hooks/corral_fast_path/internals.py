"""What the endpoints call of LiteLLM, and how: `guard.py` holds each against the LiteLLM that is installed."""

from corral_fast_path.guard import Internal

_PROXY = "litellm.proxy.proxy_server"
_PROCESSING = "litellm.proxy.common_request_processing"
_LOGGING = "litellm.litellm_core_utils.litellm_logging"
_CORE = "litellm.litellm_core_utils.core_helpers"

OF_REQUESTS = (
    *(
        Internal(_PROXY, name, None)
        for name in (
            "app",
            "general_settings",
            "llm_router",
            "proxy_config",
            "proxy_logging_obj",
            "select_data_generator",
            "user_api_base",
            "user_max_tokens",
            "user_model",
            "user_request_timeout",
            "user_temperature",
            "version",
        )
    ),
    Internal("litellm.proxy._types", "ProxyException", ("message", "type", "param", "code")),
    *(
        Internal("litellm.proxy._types", f"SpecialHeaders.{name}", None)
        for name in (
            "openai_authorization",
            "azure_authorization",
            "anthropic_authorization",
            "google_ai_studio_authorization",
            "azure_apim_authorization",
            "custom_litellm_api_key",
        )
    ),
    Internal(
        "litellm.proxy.auth.user_api_key_auth",
        "user_api_key_auth",
        (
            "request",
            "api_key",
            "azure_api_key_header",
            "anthropic_api_key_header",
            "google_ai_studio_api_key_header",
            "azure_apim_header",
            "custom_litellm_key_header",
        ),
    ),
    Internal("litellm.proxy.common_utils.http_parsing_utils", "read_request_body", ("request",)),
    Internal("litellm.proxy.anthropic_endpoints.endpoints", "_anthropic_error_json_response", positional=2),
    Internal("litellm.proxy.route_llm_request", "_raise_if_model_fully_blocked", positional=3),
    Internal(_PROCESSING, "ProxyBaseLLMRequestProcessing", ("data",)),
    Internal(
        _PROCESSING,
        "ProxyBaseLLMRequestProcessing._pre_call_with_fallbacks",
        (
            "request",
            "general_settings",
            "proxy_logging_obj",
            "user_api_key_dict",
            "version",
            "proxy_config",
            "user_model",
            "user_temperature",
            "user_request_timeout",
            "user_max_tokens",
            "user_api_base",
            "model",
            "route_type",
            "llm_router",
        ),
        positional=1,
    ),
    Internal(
        _PROCESSING,
        "ProxyBaseLLMRequestProcessing.base_process_llm_request",
        (
            "request",
            "fastapi_response",
            "user_api_key_dict",
            "route_type",
            "proxy_logging_obj",
            "llm_router",
            "general_settings",
            "proxy_config",
            "select_data_generator",
            "version",
            "skip_pre_call_logic",
        ),
        positional=1,
    ),
    Internal(
        _PROCESSING,
        "ProxyBaseLLMRequestProcessing._handle_llm_api_exception",
        ("e", "user_api_key_dict", "proxy_logging_obj", "version"),
        positional=1,
    ),
    Internal(
        _PROCESSING,
        "ProxyBaseLLMRequestProcessing.get_custom_headers",
        (
            "user_api_key_dict",
            "call_id",
            "model_id",
            "api_base",
            "version",
            "response_cost",
            "model_region",
            "request_data",
            "hidden_params",
            "litellm_logging_obj",
        ),
    ),
    Internal(_PROCESSING, "_record_streaming_client_disconnect_if_needed", ("client_disconnected",), positional=2),
    Internal("litellm.proxy.utils", "ProxyLogging.callback_capabilities"),
    Internal(
        "litellm.proxy.utils", "ProxyLogging.post_call_success_hook", ("data", "user_api_key_dict", "response"), 1
    ),
    Internal(
        "litellm.proxy.utils",
        "ProxyLogging.post_call_failure_hook",
        ("user_api_key_dict", "original_exception", "request_data"),
        1,
    ),
    Internal(
        "litellm.proxy.utils",
        "ProxyLogging.post_call_response_headers_hook",
        ("data", "user_api_key_dict", "response", "request_headers"),
        1,
    ),
    Internal("litellm.proxy.utils", "ProxyLogging.arelease_max_parallel_requests_on_disconnect", positional=2),
    Internal("litellm.types.utils", "is_litellm_owned_kwarg", positional=1),
    Internal(
        "litellm.router",
        "Router.async_get_available_deployment",
        ("model", "specific_deployment", "request_kwargs", "messages"),
        1,
    ),
    Internal("litellm.router", "Router.async_get_available_deployment", ("model", "request_kwargs", "input"), 1),
    Internal("litellm.router", "Router.async_function_with_fallbacks", ("original_function", "model"), 1),
    Internal(
        "litellm.router", "Router._update_kwargs_before_fallbacks", ("model", "kwargs", "metadata_variable_name"), 1
    ),
    Internal("litellm.router", "Router._update_kwargs_with_deployment", ("deployment", "kwargs", "function_name"), 1),
    Internal("litellm.router", "Router._deployment_slot", ("deployment", "kwargs", "parent_otel_span"), 1),
    Internal("litellm.router", "Router._set_deployment_num_retries_on_exception", positional=3),
    Internal("litellm.router", "Router._stamp_failed_deployment_id_with_effective_model_info", positional=4),
    Internal("litellm.router", "Router.get_model_from_alias", ("model",), 1),
    Internal("litellm.router", "Router.get_model_list", ("model_name",), 1),
    Internal("litellm.router", "Router.map_team_model", positional=3),
    Internal(
        _LOGGING,
        "Logging.update_environment_variables",
        ("model", "user", "optional_params", "custom_llm_provider", "litellm_params"),
        1,
    ),
    Internal(_LOGGING, "Logging.pre_call", ("input", "api_key", "additional_args"), 1),
    Internal(_LOGGING, "Logging.failure_handler", positional=3),
    Internal(_LOGGING, "Logging.async_failure_handler", positional=3),
    Internal(
        _LOGGING,
        "Logging.dispatch_success_handlers",
        ("cache_hit", "start_time", "end_time", "prefer_async_handlers"),
        2,
    ),
    Internal(_LOGGING, "Logging.response_cost_calculator", ("result",), 1),
    Internal(_LOGGING, "Logging.record_partial_usage_for_failure", positional=3),
    Internal(_CORE, "bind_budget_reservation_to_callbacks", positional=1),
    Internal(_CORE, "unbind_budget_reservation_from_callbacks", positional=1),
    Internal("litellm.litellm_core_utils.llm_response_utils.get_headers", "get_response_headers", positional=1),
    Internal(
        "litellm.litellm_core_utils.logging_worker",
        "GLOBAL_LOGGING_WORKER.ensure_initialized_and_enqueue",
        ("async_coroutine",),
    ),
)
