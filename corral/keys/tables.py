"""Show keys: as tables for people and as plain data for `--json`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.table import Table
from rich.text import Text

from corral.keys.client import CreatedKey, KeyInfo

STATE_STYLES = {"active": "green", "over budget": "yellow", "blocked": "red", "expired": "dim"}
ALL_MODELS = "all"
NO_LIMIT = "-"


def created_as_data(created: CreatedKey, now: datetime) -> dict[str, Any]:
    """Return what `create --json` prints; the key comes first, and nowhere else."""
    return {"key": created.key, **key_as_data(created.info, now)}


def key_as_data(key: KeyInfo, now: datetime) -> dict[str, Any]:
    """Return a key for JSON: dollars as numbers, times in ISO 8601, no limit as null, all models as an empty list."""
    return {
        "alias": key.alias,
        "models": list(key.models),
        "rpm": key.rpm,
        "tpm": key.tpm,
        "parallel": key.parallel,
        "spend": key.spend,
        "budget": key.budget,
        "budget_reset": key.budget_reset,
        "budget_resets_at": _iso(key.budget_resets_at),
        "expires": _iso(key.expires),
        "created": _iso(key.created),
        "traces": key.traces,
        "state": key.state(now),
        "hint": key.hint,
        "id": key.id,
    }


def keys_table(keys: Sequence[KeyInfo], now: datetime) -> Table:
    """Return one row per key."""
    table = Table("key", "models", "spend", "rpm", "tpm", "parallel", "expires", "state", box=None, pad_edge=False)
    for key in keys:
        state = key.state(now)
        table.add_row(
            Text(key.name),
            Text(models(key)),
            spend_of_budget(key),
            limit(key.rpm),
            limit(key.tpm),
            limit(key.parallel),
            when(key.expires, now),
            Text(state, style=STATE_STYLES[state]),
        )
    return table


def key_table(key: KeyInfo, now: datetime) -> Table:
    """Return one key, a row per property."""
    table = Table(box=None, show_header=False, pad_edge=False)
    state = key.state(now)
    rows: list[tuple[str, str | Text]] = [
        ("key", Text(key.hint)),
        ("alias", Text(key.alias or NO_LIMIT)),
        ("state", Text(state, style=STATE_STYLES[state])),
        ("models", Text(models(key))),
        ("spend", spend_of_budget(key)),
        ("budget resets", resets(key, now)),
        ("requests a minute", limit(key.rpm)),
        ("tokens a minute", limit(key.tpm)),
        ("at a time", limit(key.parallel)),
        ("expires", when(key.expires, now)),
        ("created", when(key.created, now) if key.created else NO_LIMIT),
        ("traces", Text(key.traces or "as the farm's")),
        ("id", Text(key.id)),
    ]
    for name, value in rows:
        table.add_row(Text(name, style="bold"), value)
    return table


def models(key: KeyInfo) -> str:
    """Return the models' names, or that it is all of them."""
    return ", ".join(key.models) or ALL_MODELS


def limit(number: int | None) -> str:
    """Return a limit with its thousands set apart."""
    return NO_LIMIT if number is None else f"{number:,}"


def money(dollars: float) -> str:
    """Return an amount in cents, or with two significant digits where it is less than one."""
    if dollars == 0 or abs(dollars) >= 0.01:
        return f"${dollars:,.2f}"
    return f"${dollars:.2g}" if abs(dollars) >= 0.0001 else f"${dollars:.1e}"


def spend_of_budget(key: KeyInfo) -> str:
    """Return what was spent, of what budget, and the share."""
    if key.budget is None:
        return money(key.spend)
    share = f" ({key.spend / key.budget:.0%})" if key.budget > 0 else ""
    return f"{money(key.spend)} of {money(key.budget)}{share}"


def resets(key: KeyInfo, now: datetime) -> str:
    """Return how often the budget starts anew, and when next; `/key/generate` does not tell the latter."""
    if key.budget is None:
        return NO_LIMIT
    if key.budget_reset is None:
        return "never"
    next_time = f", next {when(key.budget_resets_at, now)}" if key.budget_resets_at else ""
    return f"every {key.budget_reset}{next_time}"


def when(moment: datetime | None, now: datetime) -> str:
    """Return a date with how far off it is: `2026-12-21 (in 30 d)`."""
    if moment is None:
        return "never"
    distance = moment - now
    ahead = distance >= timedelta(0)
    span = _span(distance if ahead else -distance)
    return f"{moment:%Y-%m-%d} ({f'in {span}' if ahead else f'{span} ago'})"


def _span(distance: timedelta) -> str:
    seconds = distance.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
