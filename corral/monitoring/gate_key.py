"""The key with which Prometheus reads the gate's metrics: it may read them, and nothing else.

LiteLLM 1.106.2 lets a key call the routes in `allowed_routes` only (litellm/proxy/auth/route_checks.py); the model name
`no-default-models` stands for none.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from corral.errors import CorralError
from corral.keys.client import GateAccess
from corral.paths import write_private
from corral.render.prometheus import ROUTING_METRICS

TIMEOUT_S = 10.0
OWN = "/metrics/"
"""LiteLLM's own page."""
PAGES = (OWN, ROUTING_METRICS)
_ROUTES = ["/metrics", "/metrics/", ROUTING_METRICS]


def create(access: GateAccess) -> str:
    """Make such a key and return it.

    Raises:
        CorralError: the gate does not answer, or refuses.
    """
    body = {
        "key_alias": time.strftime("prometheus-%Y%m%d-%H%M%S"),
        "allowed_routes": _ROUTES,
        "models": ["no-default-models"],
    }
    try:
        answer = httpx.post(
            f"{access.base_url}/key/generate", json=body, timeout=TIMEOUT_S, trust_env=False,
            headers={"Authorization": f"Bearer {access.master_key}"},
        )  # fmt: skip
        answer.raise_for_status()
        return str(answer.json()["key"])
    except httpx.HTTPStatusError as error:
        raise CorralError(
            f"the gate refused to make a key for its metrics: {error.response.status_code} {error.response.text[:200]}",
            "check that the master key is this gate's",
        ) from error
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise CorralError(
            f"the gate at {access.base_url} gave no key for its metrics: {type(error).__name__}",
            "see its log: corral logs litellm",
        ) from error


def keep(file: Path, access: GateAccess, pages: Sequence[str] = PAGES) -> None:
    """See to it that a file holds a key that works; make one if it does not.

    Args:
        file: mode 600.
        access: to the gate, as its administrator.
        pages: that the gate has.

    Raises:
        CorralError: the gate gives none, or has no metrics.
    """
    if file.exists() and not _refused(access, file.read_text(encoding="utf-8"), pages):
        return
    key = create(access)
    if refused := _refused(access, key, pages):
        raise CorralError(
            f"the gate answers {refused} where its metrics should be",
            "the farm file needs `monitoring: {}`; add it, then make apply",
        )
    write_private(file, key)


def _refused(access: GateAccess, key: str, pages: Sequence[str]) -> str:
    """Return status and path of the first page that the key does not get; empty if it gets all."""
    try:
        for path in pages:
            answer = httpx.get(
                f"{access.base_url}{path}",
                timeout=TIMEOUT_S,
                trust_env=False,
                headers={"Authorization": f"Bearer {key}"},
            )
            if answer.status_code != httpx.codes.OK:
                return f"{answer.status_code} at {path}"
    except httpx.HTTPError as error:
        raise CorralError(
            f"the gate at {access.base_url} does not answer: {type(error).__name__}", "see its log: corral logs litellm"
        ) from error
    return ""
