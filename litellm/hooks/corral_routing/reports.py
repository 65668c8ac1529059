"""What gpu-servers say of themselves, held to what can be true. A report that cannot be is refused, with the reason."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

MOST_REQUESTS = 100_000
MOST_TOKENS = 2**27
MOST_RATE = 1e7
MOST_MIB = 2**24
STATES = frozenset({"starting", "ready", "draining", "restarting", "failed", "stopped"})
"""See docs/gpu-server/states.md."""
UPSTREAM_PREFIX = "llm_provider-"
"""What LiteLLM puts before the name of each header of an upstream's answer."""


class ReportError(Exception):
    """A report that cannot be true, or is none."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many requests a server works on, holds in line, and can work on at a time."""

    busy: int
    queued: int
    slots: int


@dataclass(frozen=True, slots=True)
class Status:
    """A `/status`. Speeds are tokens/s, None before the first answer; `context` is tokens a slot.

    `cache_ram_mib` is host memory for prompts: 0 for none, -1 without a limit, None from a server that does not tell.
    """

    state: str
    load: Load
    max_queue: int
    context: int
    generation: int
    decode_rate: float | None = None
    prefill_rate: float | None = None
    cache_ram_mib: int | None = None


def status_of(document: object) -> Status:
    """Return the status that a `/status` gave.

    Raises:
        ReportError: It is no status, or a figure of it cannot be true; names the field.
    """
    if not isinstance(document, Mapping):
        raise ReportError(f"/status is no JSON object but {type(document).__name__}")
    state = document.get("state")
    if state not in STATES:
        raise ReportError(f"state: {_shown(state)} is none of {', '.join(sorted(STATES))}")
    return Status(
        state=str(state),
        load=Load(
            busy=_count(document, "busy", 0, MOST_REQUESTS),
            queued=_count(document, "queued", 0, MOST_REQUESTS),
            slots=_count(document, "slots", 1, MOST_REQUESTS),
        ),
        max_queue=_count(document, "max_queue", 0, MOST_REQUESTS),
        context=_count(document, "context", 1, MOST_TOKENS),
        generation=_count(document, "generation", 0, 2**53),
        decode_rate=_rate(document, "tokens_per_second"),
        prefill_rate=_rate(document, "prompt_tokens_per_second"),
        cache_ram_mib=_count(document, "cache_ram_mib", -1, MOST_MIB) if "cache_ram_mib" in document else None,
    )


def load_of(headers: Mapping[str, object]) -> Load | None:
    """Return the load in an answer's `x-corral-*` headers, with or without LiteLLM's prefix; None if not sound."""
    found: dict[str, int] = {}
    for name in ("busy", "queued", "slots"):
        value = headers.get(f"{UPSTREAM_PREFIX}x-corral-{name}", headers.get(f"x-corral-{name}"))
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) <= 6):
            return None
        found[name] = int(text)
    return Load(**found) if found["slots"] else None


def _count(document: Mapping[str, object], name: str, least: int, most: int) -> int:
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ReportError(f"{name}: {_shown(value)} is no whole number from {least} to {most}")
    return value


def _rate(document: Mapping[str, object], name: str) -> float | None:
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ReportError(f"{name}: {_shown(value)} is no number of tokens per second")
    if not 0 < value <= MOST_RATE:
        raise ReportError(f"{name}: {_shown(value)} tokens per second cannot be")
    return float(value)


def _shown(value: object) -> str:
    return repr(value)[:40]
