"""Figures as a person reads them, and spans of time as one types them."""

import math
import re

from corral.errors import CorralError

_SPAN = re.compile(r"(\d{1,6})(m|h|d|w)")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
SHORTEST_S, LONGEST_S = 600, 366 * 86_400
NOTHING = "-"


def span_s(text: str) -> int:
    """Return the seconds of a span like `24h`.

    Raises:
        CorralError: it is none, or shorter than ten minutes or longer than a year; exit code 2.
    """
    found = _SPAN.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise CorralError(
            f"--since {text!r} is no span of time from 10m to 366d", "give a number and m, h, d or w, like 24h",
            exit_code=2,
        )  # fmt: skip
    return seconds


def form(value: float | None, unit: str) -> str:
    """Return a figure with its unit: count, share, s, dollars, celsius, watts or joules."""
    if value is None or not math.isfinite(value):
        return NOTHING
    match unit:
        case "count":
            return f"{value:,.0f}"
        case "share":
            return f"{value:.1%}"
        case "s":
            return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
        case "dollars":
            return f"${value:,.2f}" if value >= 0.01 or value == 0 else f"${value:.2g}"
        case "celsius":
            return f"{value:.0f} °C"
        case "watts":
            return f"{value:.0f} W"
        case "joules":
            return f"{value / 3.6e6:,.2f} kWh"
        case _:
            raise ValueError(unit)
