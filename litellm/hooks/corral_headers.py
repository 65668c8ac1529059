"""Puts the `x-corral-*` headers of a server onto the gate's answers, and a request's id onto its way to the server.

LiteLLM loads this as a callback (`litellm_settings.callbacks: ["corral_headers.headers"]`, this folder on
PYTHONPATH). It imports LiteLLM and the standard library only.
"""

import re
from collections.abc import Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

PREFIX = "x-corral-"
UPSTREAM_PREFIX = "llm_provider-"
"""What LiteLLM puts before the name of each header of the upstream's answer."""
PROVIDER_PREFIX = "provider."
"""What the rendered configuration puts before the id of a deployment that is not of the farm."""
KEY_DIGITS = 16
"""Of a key's hash: enough to tell keys apart."""
_HASH = re.compile(r"[0-9a-f]{64}$")


def corral_headers(upstream: Mapping[str, Any]) -> dict[str, str]:
    """Return the `x-corral-*` headers among those of an upstream answer, with or without LiteLLM's prefix."""
    found = {}
    for name, value in upstream.items():
        plain = name.lower().removeprefix(UPSTREAM_PREFIX)
        if plain.startswith(PREFIX):
            found[plain] = str(value)
    return found


def for_server(call_id: object, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that let a gpu-server log a request under the gate's id, and for whose key it was.

    Args:
        call_id: LiteLLM's, which the client gets as `x-litellm-call-id`.
        metadata: what LiteLLM keeps of the request.
    """
    key = str(metadata.get("user_api_key_hash") or metadata.get("user_api_key") or "")
    found = {"x-request-id": str(call_id)} if call_id else {}
    return found | ({"x-corral-key-hash": key[:KEY_DIGITS]} if _HASH.match(key) else {})


class CorralHeaders(CustomLogger):
    """Adds to each answer the headers that its server gave; at least `x-corral-server`."""

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: object) -> dict[str, Any] | None:
        """See LiteLLM's `CustomLogger`: the request as it goes to its server, on LiteLLM's own path."""
        deployment = str((kwargs.get("model_info") or {}).get("id") or PROVIDER_PREFIX)
        if deployment.startswith(PROVIDER_PREFIX):
            return None
        metadata = kwargs.get("metadata") or kwargs.get("litellm_metadata") or {}
        ours = for_server(kwargs.get("litellm_call_id"), metadata)
        return {**kwargs, "extra_headers": {**(kwargs.get("extra_headers") or {}), **ours}}

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
