"""A dashboard as plain data. A panel is five lines: title, unit, and the PromQL with a legend."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lines", "stat", "table"]
Variable = Literal["host", "model", "gpu", "key", "requests_per_minute", "runbooks"]


@dataclass(frozen=True)
class Query:
    """PromQL, and how its series are called: `{{model}}` is a label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Args:
        title: what is seen; no unit in it.
        unit: Grafana's name of it: `s`, `percentunit`, `reqps`, `short`, `bytes`, `watt`, `celsius`, ...
        queries: one or more.
        about: what a person should know to read it.
        kind: lines over time, one number, or a table of what is now.
        width: of 24 columns.
        runbooks: whether rows are alerts, linked to their pages.
    """

    title: str
    unit: str
    queries: tuple[Query, ...]
    about: str = ""
    kind: Kind = "lines"
    width: int = 8
    runbooks: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; `uid` is in its address and in the links to it."""

    uid: str
    title: str
    about: str
    variables: tuple[Variable, ...]
    panels: tuple[Panel, ...]


def lines(title: str, unit: str, *queries: tuple[str, str], about: str = "", width: int = 8) -> Panel:
    """Return series over time."""
    return Panel(title, unit, tuple(Query(*query) for query in queries), about, "lines", width)


def number(title: str, unit: str, expr: str, about: str = "", width: int = 4) -> Panel:
    """Return one number, as of now."""
    return Panel(title, unit, (Query(expr),), about, "stat", width)


def firing_alerts(width: int = 24) -> Panel:
    """Return a table of alerts, each linked to its runbook."""
    query = Query('max by (alertname, severity, host, server, model, gpu) (ALERTS{alertstate="firing"})')
    about = "DeadMansSwitch always fires. The variable Runbooks says where docs/runbooks/ can be read."
    return Panel("Firing alerts", "short", (query,), about, "table", width, runbooks=True)
