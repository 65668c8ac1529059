"""Plots as SVG, by matplotlib."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from corral.errors import CorralError
from corral.report.contents import Plot
from corral.report.prometheus import Period, Points

MOST_LINES = 12
"""Of more, the largest are drawn and the rest is summed up."""
INCHES = (7.2, 2.6)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line of a plot."""

    name: str
    points: Points


def check() -> None:
    """See that plots can be drawn, before anything is asked.

    Raises:
        CorralError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: F401  # installed only where reports are made
    except ImportError:
        raise CorralError(
            "the plots need matplotlib, which is not installed", "run make report, or scripts/bootstrap.sh report"
        ) from None


def svg(plot: Plot, lines: Sequence[Drawn], period: Period) -> bytes:
    """Return a plot as an SVG document."""
    from matplotlib import dates, rc_context
    from matplotlib.figure import Figure

    # Text stays text, names are never mathematics, and the same data gives the same file.
    settings = {"svg.fonttype": "none", "text.parse_math": False, "svg.hashsalt": "corral", "font.size": 8}
    with rc_context(settings):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes = figure.add_subplot()
        if plot.stacked:
            _stack(axes, lines)
        else:
            for line in lines:
                moments, values = _with_gaps(line.points, period.step_s)
                axes.plot(
                    dates.date2num(moments),
                    values,
                    label=line.name,
                    linewidth=1.2,
                    marker="." if len(values) < 3 else "",
                )
        axes.set_xlim(dates.date2num(_moment(period.start)), dates.date2num(_moment(period.end)))
        axes.set_ylim(bottom=0)
        axes.set_ylabel(plot.unit)
        locator = dates.AutoDateLocator(maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        axes.grid(visible=True, color="#dddddd", linewidth=0.5)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def largest(lines: Sequence[Drawn]) -> list[Drawn]:
    """Return at most `MOST_LINES` lines, the largest on the whole, with the sum of all others as the last."""
    ordered = sorted(lines, key=lambda line: (-sum(value for _, value in line.points if value == value), line.name))
    if len(ordered) <= MOST_LINES:
        return ordered
    sums: dict[float, float] = {}
    for line in ordered[MOST_LINES - 1 :]:
        for moment, value in line.points:
            if math.isfinite(value):
                sums[moment] = sums.get(moment, 0.0) + value
    rest = len(ordered) - MOST_LINES + 1
    return [*ordered[: MOST_LINES - 1], Drawn(f"{rest} others, together", sorted(sums.items()))]


def _stack(axes: Any, lines: Sequence[Drawn]) -> None:
    moments = sorted({moment for line in lines for moment, _ in line.points})
    rows = []
    for line in lines:
        known = dict(line.points)
        rows.append([_finite(known.get(moment, 0.0)) for moment in moments])
    axes.stackplot(
        [_moment(moment) for moment in moments], rows, labels=[line.name for line in lines], linewidth=0, alpha=0.85
    )


def _with_gaps(points: Points, step_s: int) -> tuple[list[datetime], list[float]]:
    """Return the points, with a break where Prometheus has none: a line over it would tell of what was not seen."""
    moments: list[datetime] = []
    values: list[float] = []
    before: float | None = None
    for moment, value in points:
        if before is not None and moment - before > 1.5 * step_s:
            moments.append(_moment((before + moment) / 2))
            values.append(math.nan)
        moments.append(_moment(moment))
        values.append(value)
        before = moment
    return moments, values


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone()
