"""Which of LiteLLM's deployments are gpu-servers, where they are asked, and what they are called here."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from corral_routing.poller import Place


def place_of(deployment: Mapping[str, Any]) -> Place | None:
    """Return where a deployment's server is asked for its `/status`; None for one that cannot be a gpu-server."""
    parameters = deployment.get("litellm_params") or {}
    name, base = (deployment.get("model_info") or {}).get("id"), parameters.get("api_base")
    if not isinstance(name, str) or not isinstance(base, str) or name.startswith("provider."):
        return None
    return _place(name, base, str(parameters.get("api_key") or ""))


@lru_cache(maxsize=1000)
def _place(name: str, base: str, key: str) -> Place:
    return Place(name, base.rstrip("/").removesuffix("/v1") + "/status", key)


def names_of(places: Sequence[Place]) -> list[str]:
    """Return a name for each place: its deployment's id, with its address where several have one id."""
    ids = [place.name for place in places]
    if len(set(ids)) == len(ids):
        return ids
    return [place.name if ids.count(place.name) == 1 else f"{place.name} {place.url}" for place in places]
