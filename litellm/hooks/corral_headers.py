"""Puts the `x-corral-*` headers of the server that answered onto the gate's answers.

LiteLLM loads this as a callback (`litellm_settings.callbacks: ["corral_headers.headers"]`, this folder on
PYTHONPATH). It imports LiteLLM and the standard library only.
"""

from collections.abc import Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

PREFIX = "x-corral-"
UPSTREAM_PREFIX = "llm_provider-"
"""What LiteLLM puts before the name of each header of the upstream's answer."""


def corral_headers(upstream: Mapping[str, Any]) -> dict[str, str]:
    """Return the `x-corral-*` headers among those of an upstream answer, with or without LiteLLM's prefix."""
    found = {}
    for name, value in upstream.items():
        plain = name.lower().removeprefix(UPSTREAM_PREFIX)
        if plain.startswith(PREFIX):
            found[plain] = str(value)
    return found


class CorralHeaders(CustomLogger):
    """Adds to each answer the headers that its server gave; at least `x-corral-server`."""

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: object,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, object] | None = None,
    ) -> dict[str, str] | None:
        """See LiteLLM's `CustomLogger`: the dictionary returned is merged into the answer's headers."""
        hidden = getattr(response, "_hidden_params", None) or {}
        headers = corral_headers(hidden.get("additional_headers") or {})
        server = (litellm_call_info or {}).get("model_id")
        if server:
            headers.setdefault("x-corral-server", str(server))
        return headers or None


headers = CorralHeaders()
