"""Shorter ways to what LiteLLM works out for each request, with the same result.

LiteLLM is made for hundreds of providers, prices and limits. On a farm most of what it works out anew for each request
is the same as for the last one, or nothing. Each module here stands in for a few of its functions: it looks whether
that is so, and hands everything else to the function it stands for. `guard.py` lists all of them; with the fast path
off, or before another LiteLLM, none is put in place.
"""

from importlib import import_module

from corral_fast_path.guard import is_installed
from corral_fast_path.shortcuts import (
    audience,
    caches,
    costs,
    daily_spend,
    deployments,
    guardrails,
    keys,
    providers,
    request_data,
    routes,
    rows,
    targets,
    unused,
)

_ALWAYS = (
    audience, caches, costs, daily_spend, deployments, guardrails, keys, providers, request_data, routes, rows, targets,
    unused,
)  # fmt: skip
_WITH = {"metrics": "prometheus_client", "listeners": "litellm_enterprise", "queries": "prisma.builder"}
"""Those that stand in for functions of what LiteLLM can be without."""


def install() -> None:
    """Put all in the place of LiteLLM's functions, in this process."""
    for module in _ALWAYS:
        module.install()
    for name, needed in _WITH.items():
        if is_installed(needed):
            import_module(f"{__name__}.{name}").install()
