"""What guardrails a deployment has, and what became of a request's: LiteLLM looks for both where there are none.

It makes an object of the deployment for that, and reads the JSON of each row of spend twice.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from litellm.proxy import utils
from litellm.proxy.guardrails import usage_tracking

from corral_fast_path.shortcuts.deployments import deployment_of

_RECORDED = re.compile(r'guardrail_information"\s*:\s*\[')

_merge_of_litellm = utils.check_and_merge_model_level_guardrails
_recorded_of_litellm = usage_tracking._parse_guardrail_info_from_payload


def _merge(data: Any, llm_router: Any, trust_client_model_info: bool = True, model_alias: str | None = None) -> Any:
    name = ((data.get("metadata") or {}).get("model_info") or {}).get("id")
    if trust_client_model_info and llm_router is not None and isinstance(name, str):
        deployment = deployment_of(llm_router, name)
        if deployment is not None and not deployment["litellm_params"].get("guardrails"):
            return data
    return _merge_of_litellm(data, llm_router, trust_client_model_info, model_alias)


def _recorded(payload: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    metadata = payload.get("metadata")
    if isinstance(metadata, str) and _RECORDED.search(metadata) is None:
        return []
    found: Sequence[Mapping[str, Any]] = _recorded_of_litellm(payload)
    return found


def install() -> None:
    """Put them in the place of LiteLLM's."""
    utils.check_and_merge_model_level_guardrails = _merge
    usage_tracking._parse_guardrail_info_from_payload = _recorded
