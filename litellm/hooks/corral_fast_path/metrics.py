"""Whether the fast path is there, and which way requests go, in LiteLLM's own `/metrics` where that is switched on."""

import importlib.util
from typing import Any

_active: Any = None
_requests: Any = None

if importlib.util.find_spec("prometheus_client") is not None:  # LiteLLM has no `/metrics` without it
    import prometheus_client

    _active = prometheus_client.Gauge(
        "corral_gate_fast_path_active",
        "1 if the gate relays requests for models of the farm itself, 0 if all go LiteLLM's own way",
        multiprocess_mode="min",
    )
    _requests = prometheus_client.Counter(
        "corral_gate_requests", "Requests by the way they went, and why not the fast one", ["path", "reason"]
    )


def active(*, yes: bool) -> None:
    """Say whether the fast path is there."""
    if _active is not None:
        _active.set(int(yes))


def count_fast() -> None:
    """Count a request that the fast path takes."""
    if _requests is not None:
        _requests.labels(path="fast", reason="").inc()


def count_stock(reason: str) -> None:
    """Count a request that goes LiteLLM's own way; `reason` is one of a few."""
    if _requests is not None:
        _requests.labels(path="stock", reason=reason).inc()
