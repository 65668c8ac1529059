"""Which metrics and labels a PromQL expression speaks of, and what a running Prometheus knows of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import promql_parser


@dataclass
class Spoken:
    """Metrics, labels that each is matched by, and labels that the expression groups or joins by."""

    selectors: dict[str, set[str]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)


def spoken(expression: str) -> Spoken:
    """Return what an expression speaks of.

    Raises:
        ValueError: it is no PromQL.
    """
    found = Spoken()

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            found.selectors.setdefault(node.name, set()).update(one.name for one in node.matchers.matchers)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            found.grouped.update(node.modifier.labels)
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier:
            if node.modifier.matching:
                found.grouped.update(node.modifier.matching.labels)
            found.grouped.update(node.modifier.group_labels or ())

    promql_parser.walk(promql_parser.parse(expression), visit, lambda _node: None)
    return found


class Prometheus:
    """A running Prometheus, by its HTTP API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=20, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """Return `data` of an answer; AssertionError with Prometheus's own words if it refuses."""
        answer = self._http.get(path, params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        data = self.get("/query", query=expression)
        return data["result"] if data["resultType"] == "vector" else [{"metric": {}, "value": data["result"]}]

    def labels_of(self, metric: str) -> set[str] | None:
        """Return the labels that series of a metric have; None if it has no series."""
        series = self.get("/series", **{"match[]": metric})
        return {label for one in series for label in one} - {"__name__"} if series else None

    def alerts(self) -> dict[str, str]:
        """Return the state of each active alert, `pending` or `firing`."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self.get("/alerts")["alerts"]}


def unknown(expression: str, prometheus: Prometheus, rare: dict[str, set[str]]) -> Iterator[str]:
    """Give what an expression speaks of and Prometheus does not know.

    Args:
        expression: PromQL.
        prometheus: one that scrapes everything.
        rare: labels that metrics have only when something goes wrong.
    """
    found = spoken(expression)
    labels: set[str] = set()
    for metric, matched in found.selectors.items():
        known = prometheus.labels_of(metric)
        if known is None and metric not in rare:
            yield f"metric {metric}"
            continue
        known = (known or set()) | rare.get(metric, set())
        labels |= known
        yield from (f"label {label} of {metric}" for label in sorted(matched - known - {"__name__"}))
    yield from (f"label {label} in {expression}" for label in sorted(found.grouped - labels))
