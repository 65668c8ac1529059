"""Shorter ways to what LiteLLM works out for each request, with the same result.

LiteLLM is made for hundreds of providers, prices and limits. On a farm most of what it works out anew for each request
is the same as for the last one, or nothing. Each module here stands in for a few of its functions: it looks whether
that is so, and hands everything else to the function it stands for. `guard.py` lists all of them; with the fast path
off, or before another LiteLLM, none is put in place.
"""

import importlib.util

from corral_fast_path.shortcuts import (
    audience,
    costs,
    daily_spend,
    deployments,
    keys,
    providers,
    request_data,
    routes,
    rows,
    unused,
)


def install() -> None:
    """Put all in the place of LiteLLM's functions, in this process."""
    for module in (audience, costs, daily_spend, deployments, keys, providers, request_data, routes, rows, unused):
        module.install()
    if importlib.util.find_spec("prometheus_client") is not None:  # LiteLLM can be without
        from corral_fast_path.shortcuts import metrics

        metrics.install()
    if importlib.util.find_spec("litellm_enterprise") is not None:  # as before
        from corral_fast_path.shortcuts import listeners

        listeners.install()
