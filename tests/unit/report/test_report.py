"""What `corral report` makes of Prometheus' answers, the hostile ones too."""

import json
import math
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from corral.errors import CorralError
from corral.report.contents import PLOTS, TABLES, Column, Plot, TableOf
from corral.report.drawing import MOST_LINES, Drawn, check, largest, svg
from corral.report.page import page
from corral.report.prometheus import Period, Prometheus
from corral.report.units import form, span_s

DAY = Period(1_000_000, 1_086_400)
HOSTILE = '<script>alert("$x_1$")</script>'


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    asked: list[dict[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(parse_qs(urlsplit(self.path).query))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def series(*names: str) -> bytes:
    result: list[dict[str, Any]] = [
        {
            "metric": {"model": name},
            "value": [DAY.end, "12.5"],
            "values": [[DAY.start + 300 * step, str(step)] for step in range(100)],
        }
        for name in names
    ]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def test_names_are_no_html_and_no_mathematics() -> None:
    table = TableOf("Models", "model", (Column("requests", "count", "x"),))
    plot = Plot("Requests", "per minute", "{model}", {"": "x"})
    with answering(series(HOSTILE)) as (url, _), Prometheus(url) as prometheus:
        found = page(HOSTILE, DAY, prometheus, (table,), (plot,))
    assert "<script" not in found.html
    assert found.html.count("&lt;script&gt;alert(&quot;$x_1$&quot;)") == 3  # title, heading, table
    drawn = svg(plot, [Drawn(HOSTILE, [(DAY.start, 1.0), (DAY.end, 2.0)])], DAY).decode()
    assert "<script" not in drawn
    assert "$x_1$" in drawn


def test_what_is_empty_says_why_and_is_named() -> None:
    with answering(series()) as (url, _), Prometheus(url) as prometheus:
        found = page("farm", DAY, prometheus, TABLES, PLOTS)
    assert set(found.empty) == {one.title for one in (*TABLES, *PLOTS)}
    for one in (*TABLES, *PLOTS):
        assert one.note in found.html
    assert "Prometheus has nothing of this farm in this time" in found.html


def test_a_rate_is_taken_over_no_less_than_a_step() -> None:
    week = Period(0, 7 * 86_400)
    assert week.step_s == 2016
    assert week.fill("rate(x[$window]) / increase(x[$period]) * $seconds") == (
        "rate(x[2016s]) / increase(x[604800s]) * 604800"
    )
    assert Period(0, 3600).fill("[$window]") == "[300s]"


@pytest.mark.parametrize("one", [*PLOTS, *TABLES], ids=lambda one: one.title)
def test_every_expression_is_filled(one: Plot | TableOf) -> None:
    expressions = one.expressions.values() if isinstance(one, Plot) else [each.expression for each in one.columns]
    assert all("$" not in DAY.fill(expression) for expression in expressions)


def test_of_very_many_lines_the_largest_are_drawn_and_the_rest_is_summed_up() -> None:
    lines = [Drawn(f"key-{number}", [(0.0, float(number)), (60.0, math.nan)]) for number in range(10_000)]
    kept = largest(lines)
    assert len(kept) == MOST_LINES
    assert kept[0].name == "key-9999"
    assert kept[-1] == Drawn("9989 others, together", [(0.0, float(sum(range(9989))))])


def test_the_same_data_gives_the_same_plot() -> None:
    lines = [Drawn("chat", [(DAY.start + step, step % 7) for step in range(0, 86_400, 600)])]
    assert svg(PLOTS[0], lines, DAY) == svg(PLOTS[0], lines, DAY)


def test_a_line_is_not_drawn_over_a_gap() -> None:
    def moves(points: list[tuple[float, float]]) -> int:
        drawn = svg(PLOTS[0], [Drawn("chat", points)], DAY).decode()
        line = max(re.findall(r'<path d="([^"]*)"[^>]*stroke: #1f77b4', drawn), key=len)
        return line.count("M ")

    step = DAY.step_s
    whole = [(DAY.start + step * number, float(number % 5)) for number in range(200)]
    assert moves(whole) == 1
    assert moves(whole[:80] + whole[120:]) == 2


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"<html>a login page</html>", 200, "does not answer like a Prometheus; give its address with --prometheus"),
        (b"[]", 200, "does not answer like a Prometheus"),
        (b'{"status": "error", "error": "exceeded maximum resolution"}', 400, "refuses a question: exceeded maximum"),
    ],
)
def test_what_is_no_prometheus_or_refuses_is_said(body: bytes, status: int, said: str) -> None:
    with answering(body, status) as (url, _), Prometheus(url) as prometheus, pytest.raises(CorralError, match=said):
        page("farm", DAY, prometheus, TABLES, PLOTS)


def test_a_prometheus_that_is_not_there_is_said() -> None:
    with Prometheus("http://127.0.0.1:9") as prometheus, pytest.raises(CorralError) as refused:
        prometheus.first_sample(DAY)
    assert "no Prometheus answers at http://127.0.0.1:9" in str(refused.value)
    assert "make monitoring" in str(refused.value)


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600), ("24h", 86_400), ("7d", 604_800), ("4w", 2_419_200)])
def test_spans(text: str, seconds: int) -> None:
    assert span_s(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "9m", "-1h", "1y", "1000d", "24 h", "1e9h", "²h"])
def test_other_spans_are_refused(text: str) -> None:
    with pytest.raises(CorralError, match="give a number and m, h, d or w, like 24h") as refused:
        span_s(text)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (1234.4, "count", "1,234"), (0.9951, "share", "99.5%"), (0.0721, "s", "72 ms"), (2.04, "s", "2.0 s"),
        (0.00042, "dollars", "$0.00042"), (12.5, "dollars", "$12.50"), (7.2e6, "joules", "2.00 kWh"),
        (math.nan, "s", "-"), (math.inf, "s", "-"), (None, "count", "-"),
    ],
)  # fmt: skip
def test_figures(value: float | None, unit: str, said: str) -> None:
    assert form(value, unit) == said


def test_without_matplotlib_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # so an import of it fails
    with pytest.raises(CorralError, match=r"run make report, or scripts/bootstrap\.sh report"):
        check()
