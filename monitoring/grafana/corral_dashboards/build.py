"""Grafana's JSON of a dashboard, by Grafana's own SDK."""

import json
from collections.abc import Mapping
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    GridPos,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from corral_dashboards.view import Dashboard, Panel, Query, Variable

SOURCE = DataSourceRef(type_val="prometheus", uid="corral-prometheus")
TAG = "corral"
Built = TypeVar("Built", timeseries.Panel, stat.Panel, table.Panel)
HEIGHTS = {"lines": 8, "stat": 4, "table": 8}

_LABELS: Mapping[Variable, tuple[str, str]] = {
    "host": ("Host", 'label_values(up{job="gpu-server"}, host)'),
    "model": ("Model", 'label_values(up{job="gpu-server"}, model)'),
    "gpu": ("GPU", "label_values(gpu_info, gpu)"),
    "key": ("Key", "label_values(litellm_proxy_total_requests_metric_total, api_key_alias)"),
}
_TEXTS: Mapping[Variable, tuple[str, str]] = {
    "requests_per_minute": ("New application: requests a minute", "10"),
    "runbooks": ("Runbooks", "docs/runbooks"),
}


def as_json(view: Dashboard) -> str:
    """Return the file that Grafana provisions."""
    builder = (
        dashboard.Dashboard(view.title)
        .uid(view.uid)
        .description(view.about)
        .tags([TAG])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .link(
            dashboard.DashboardLink("Corral")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
        )
    )
    for name in view.variables:
        builder = builder.with_variable(_variable(name))
    for number, (panel, place) in enumerate(zip(view.panels, _places(view.panels), strict=True), 1):
        builder = builder.with_panel(_panel(panel).id(number).grid_pos(place))
    return json.dumps(builder.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _places(panels: tuple[Panel, ...]) -> list[GridPos]:
    """Put panels beside one another until a row of 24 columns is full, or the next is of another height."""
    places: list[GridPos] = []
    x = y = height = 0
    for panel in panels:
        if x + panel.width > 24 or (x and HEIGHTS[panel.kind] != height):
            x, y = 0, y + height
        height = HEIGHTS[panel.kind]
        places.append(GridPos(h=height, w=panel.width, x=x, y=y))
        x += panel.width
    return places


def _variable(name: Variable) -> dashboard.QueryVariable | dashboard.TextBoxVariable:
    if name in _TEXTS:
        label, value = _TEXTS[name]
        current = VariableOption(text=value, value=value)
        return dashboard.TextBoxVariable(name).label(label).default_value(value).current(current)
    label, query = _LABELS[name]
    everything = VariableOption(selected=True, text="All", value="$__all")
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _panel(panel: Panel) -> timeseries.Panel | stat.Panel | table.Panel:
    if panel.kind == "stat":
        return _common(stat.Panel(), panel, instant=True)
    if panel.kind == "table":
        made = _common(table.Panel(), panel, instant=True)
        if panel.runbooks:
            link = (
                dashboard.DashboardLink("Runbook").url("${runbooks}/${__data.fields.alertname}.md").target_blank(True)
            )
            made = made.data_links([link])
        return made
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made_lines = _common(timeseries.Panel(), panel, instant=False)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    return made_lines.legend(legend.show_legend(True)).tooltip(tooltip).fill_opacity(10)


def _common(builder: Built, panel: Panel, *, instant: bool) -> Built:
    builder = builder.title(panel.title).unit(panel.unit).datasource(SOURCE)
    if panel.about:
        builder = builder.description(panel.about)
    for place, query in enumerate(panel.queries):
        builder = builder.with_target(_target(query, "ABCDEFGH"[place], panel, instant=instant))
    return builder


def _target(query: Query, reference: str, panel: Panel, *, instant: bool) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).ref_id(reference).datasource(SOURCE)
    if query.legend:
        made = made.legend_format(query.legend)
    if panel.kind == "table":
        made = made.format(PromQueryFormat.TABLE)
    return made.instant() if instant else made.range()
