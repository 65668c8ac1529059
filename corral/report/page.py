"""The page: HTML that holds its plots, its style and nothing that a browser would have to fetch."""

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from corral.report.contents import Plot, TableOf
from corral.report.drawing import Drawn, largest, svg
from corral.report.prometheus import Period, Prometheus
from corral.report.units import NOTHING, form

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; margin: 2rem auto; max-width: 74rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p.when, p.none { color: #666; margin-top: 0; } p.note { background: #fff4d6; padding: .5rem .8rem; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { padding: .25rem 1.1rem .25rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; color: #444; }
figure { margin: 0; } img { width: 100%; height: auto; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 0 1.5rem; }
.plots h2 { margin-top: 1.2rem; } @media (max-width: 40rem) { .plots { grid-template-columns: 1fr; } }
@media print { body { margin: 0; max-width: none; } figure, tr { break-inside: avoid; } }
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a report has data for, of what it asks."""

    html: str
    empty: tuple[str, ...]


def page(farm: str, period: Period, prometheus: Prometheus, tables: Sequence[TableOf], plots: Sequence[Plot]) -> Found:
    """Return a report, and the titles of what in it is empty.

    Raises:
        CorralError: Prometheus does not answer.
    """
    begun = prometheus.first_sample(period)
    body = [*_head(farm, period, begun)]
    drawn_period = Period(max(period.start, begun), period.end) if begun is not None else period
    empty = []
    for table in tables:
        said = "".join(_table(table, period, prometheus))
        empty += [table.title] if not said else []
        body.append(f"<section><h2>{table.title}</h2>{said or _none(table.note)}</section>")
    body.append('<div class="plots">')
    for plot in plots:
        lines = largest(_lines(plot, drawn_period, prometheus))
        empty += [plot.title] if not lines else []
        drawn = _image(plot, svg(plot, lines, drawn_period)) if lines else _none(plot.note)
        body.append(f"<section><h2>{plot.title}</h2>{drawn}</section>")
    body.append("</div>")
    title = f"{html.escape(farm)}: report"
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )
    return Found(text, tuple(empty))


def _head(farm: str, period: Period, begun: float | None) -> Iterator[str]:
    yield f"<h1>{html.escape(farm)}</h1>"
    yield f'<p class="when">{_clock(period.start)} to {_clock(period.end)}</p>'
    if begun is None:
        yield '<p class="note">Prometheus has nothing of this farm in this time. Does it scrape its servers?</p>'
    elif begun - period.start > 2 * period.step_s:
        yield f'<p class="note">Prometheus has data only from {_clock(begun)} on.</p>'


def _table(table: TableOf, period: Period, prometheus: Prometheus) -> Iterator[str]:
    columns = [
        {line.labels.get(table.label, ""): line.points[0][1] for line in prometheus.at(column.expression, period)}
        for column in table.columns
    ]
    names = sorted({name for column in columns for name in column})
    if not names:
        return
    yield '<div class="wide"><table><thead><tr><th></th>'
    yield from (f"<th>{html.escape(column.heading)}</th>" for column in table.columns)
    yield "</tr></thead><tbody>"
    for name in names:
        yield f"<tr><td>{html.escape(name) or '(no name)'}</td>"
        for column, values in zip(table.columns, columns, strict=True):
            yield f"<td>{form(values.get(name), column.unit) if name in values else NOTHING}</td>"
        yield "</tr>"
    yield "</tbody></table></div>"


def _lines(plot: Plot, period: Period, prometheus: Prometheus) -> list[Drawn]:
    found = []
    for suffix, expression in plot.expressions.items():
        for line in prometheus.over(expression, period):
            points = [point for point in line.points if point[1] == point[1]]  # a quantile of nothing is no number
            if points:
                found.append(Drawn(_name(plot.legend, line.labels) + suffix, points))
    return found


def _name(legend: str, labels: object) -> str:
    name = legend
    for label, value in dict(labels).items() if isinstance(labels, dict) else ():
        name = name.replace(f"{{{label}}}", value)
    return name


def _image(plot: Plot, drawing: bytes) -> str:
    encoded = base64.b64encode(drawing).decode()
    text = html.escape(f"{plot.title}, {plot.unit}")
    return f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{encoded}"></figure>'


def _none(note: str) -> str:
    return f'<p class="none">{html.escape(note)}</p>'


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime("%Y-%m-%d %H:%M %Z")
