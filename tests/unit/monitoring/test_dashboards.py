"""Grafana's dashboards: what is provisioned is what the code gives, and Grafana's own types read it back."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard

from corral.paths import CHECKOUT
from corral_dashboards.all import DASHBOARDS
from corral_dashboards.build import as_json
from corral_dashboards.view import Dashboard
from support.promql import spoken

FOLDER = CHECKOUT / "monitoring" / "grafana" / "dashboards"
OF_GRAFANA = {"__rate_interval", "__data"}


def test_what_is_provisioned_is_what_the_code_gives() -> None:
    written = {f"{view.uid.removeprefix('corral-')}.json": as_json(view) for view in DASHBOARDS}
    assert {file.name for file in FOLDER.iterdir()} == set(written)
    stale = [name for name, text in written.items() if (FOLDER / name).read_text() != text]
    assert stale == [], "run make dashboards"


@pytest.mark.parametrize("view", DASHBOARDS, ids=lambda view: view.uid)
def test_grafanas_types_read_it_back(view: Dashboard) -> None:
    text = as_json(view)
    again = json.dumps(GrafanaDashboard.from_json(json.loads(text)), cls=JSONEncoder)
    assert json.loads(again) == json.loads(text)


@pytest.mark.parametrize("view", DASHBOARDS, ids=lambda view: view.uid)
def test_panels_lie_beside_one_another(view: Dashboard) -> None:
    places = [panel["gridPos"] for panel in json.loads(as_json(view))["panels"]]
    for one, other in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)


@pytest.mark.parametrize("view", DASHBOARDS, ids=lambda view: view.uid)
def test_variables_that_are_used_are_there_and_the_other_way_round(view: Dashboard) -> None:
    document = json.loads(as_json(view))
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(document["panels"]))) - OF_GRAFANA
    assert used == {variable["name"] for variable in document["templating"]["list"]}
    assert used == set(view.variables)


def test_each_panel_has_a_title_and_a_unit_and_no_two_the_same() -> None:
    for view in DASHBOARDS:
        titles = [panel.title for panel in view.panels]
        assert len(titles) == len(set(titles)), view.title
        assert all(panel.title and panel.unit and panel.queries for panel in view.panels)


def test_dashboards_lead_to_one_another_and_alerts_to_their_pages() -> None:
    boards: list[dict[str, Any]] = [json.loads(as_json(view)) for view in DASHBOARDS]
    for board in boards:
        (link,) = board["links"]
        assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
        assert set(link["tags"]) <= set(board["tags"])
    pages = [link["url"] for board in boards for panel in board["panels"] for link in _links(panel)]
    assert set(pages) == {"${runbooks}/${__data.fields.alertname}.md"}


def _links(panel: dict[str, Any]) -> list[dict[str, Any]]:
    return panel["fieldConfig"]["defaults"].get("links", [])


def test_the_datasource_of_the_panels_is_the_one_that_is_provisioned() -> None:
    provisioned = (FOLDER.parent / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    assert "uid: corral-prometheus" in provisioned
    for file in FOLDER.iterdir():
        assert set(re.findall(r'"uid": "(corral-prometheus|\$?\{?datasource\}?)"', file.read_text())) == {
            "corral-prometheus"
        }, file


def test_expressions_are_read_whole() -> None:
    found = spoken('sum by (a) (rate(x{b="1"}[5m])) / on (c) group_left (d) y')
    assert found.selectors == {"x": {"b"}, "y": set()}
    assert found.grouped == {"a", "c", "d"}


def test_the_writer_says_how_it_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from corral_dashboards.__main__ import main

    main([str(tmp_path)])
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in FOLDER.iterdir()}
    with pytest.raises(SystemExit, match="give the folder to write into"):
        main([str(tmp_path / "none")])
