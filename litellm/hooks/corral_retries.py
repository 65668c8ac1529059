"""Sends a request that is tried again to a server that has not failed it yet.

A server that restarts refuses at once, so it is the least busy of all: LiteLLM's own choice falls on it again and
again, until the tries are used up. LiteLLM loads this as a callback (`corral_retries.retries`).
"""

from collections.abc import Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger


def tried(request: Mapping[str, Any]) -> set[str]:
    """Return the ids of the deployments that failed this request, from the records LiteLLM keeps of its tries."""
    metadata = request.get("litellm_metadata") or request.get("metadata")
    records = metadata.get("previous_models") if isinstance(metadata, Mapping) else None
    return {
        record["deployment_id"]
        for record in records or ()
        if isinstance(record, Mapping) and isinstance(record.get("deployment_id"), str)
    }


class CorralRetries(CustomLogger):
    """Takes the deployments that failed a request out of its next choice, as long as others are left."""

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """See LiteLLM's `CustomLogger`: returns those to choose from."""
        failed = tried(request_kwargs or {})
        if not failed:
            return healthy_deployments
        rest = [one for one in healthy_deployments if (one.get("model_info") or {}).get("id") not in failed]
        return rest or healthy_deployments


retries = CorralRetries()
