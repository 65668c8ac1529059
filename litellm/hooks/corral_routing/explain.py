"""What the router believes and why it chose, for people: a header, a line in the log, a document."""

from typing import Any

from corral_routing.choice import Choice, Estimate
from corral_routing.router import Router

MOST_CANDIDATES = 16
"""In a header, the best first."""


def header(choice: Choice) -> str:
    """Return a choice as the value of `x-corral-routing`: the server, why, and each candidate's figures."""
    ordered = sorted(choice.estimates, key=lambda one: one.total_s)
    told = "; ".join(map(_figures, ordered[:MOST_CANDIDATES]))
    more = len(ordered) - MOST_CANDIDATES
    text = f"{choice.chosen.name} ({choice.reason.value}): {told}{f'; and {more} more' if more > 0 else ''}"
    return text.encode("ascii", "replace").decode()


def _figures(one: Estimate) -> str:
    return (
        f"{one.name} estimate={one.total_s:.3f}s wait={one.wait_s:.3f}s prefill={one.prefill_s:.3f}s"
        f" sharing={one.sharing_s:.3f}s loss={one.loss_s:.3f}s"
        f" cached={one.cached_tokens:.0f} uncached={one.uncached_tokens:.0f}"
    )


def document(router: Router, now: float) -> dict[str, Any]:
    """Return what one process believes, as JSON: of each server its standing, load, speeds and prompt cache."""
    servers = {}
    for name, server in sorted(router.servers.items()):
        status, cache = server.status, router.caches[name]
        servers[name] = {
            "standing": server.standing(now).value,
            "reason": server.reason,
            "report_age_s": round(server.age_s(now), 2) if server.load else None,
            "confidence": round(server.confidence(now), 2),
            "requests": server.requests(),
            "slots": server.load.slots if server.load else None,
            "own_requests": sum(not flight.by_other for flight in server.flights.values()),
            "failures_in_a_row": server.failures,
            "seconds_a_request": round(server.holding_s, 2),
            "prompt_tokens_per_second": status.prefill_rate if status else None,
            "tokens_per_second": status.decode_rate if status else None,
            "generation": status.generation if status else None,
            "remembered_prompts": len(cache),
            "remembered_tokens": cache.tokens,
            "remembered_tokens_at_most": cache.budget,
        }
    return {"servers": servers, "under_way": len(router.picks), "chars_per_token": round(router.chars_per_token, 2)}
