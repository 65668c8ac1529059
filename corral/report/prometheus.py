"""Asks Prometheus, over its HTTP API."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from corral.errors import CorralError

TIMEOUT_S = 60.0
MOST_POINTS = 300
SHORTEST_STEP_S = 15
WINDOW_S = 300

Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Period:
    """The time that a report is about, in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> int:
        """How long it is."""
        return int(self.end - self.start)

    @property
    def step_s(self) -> int:
        """How far apart the points of a plot are."""
        return max(SHORTEST_STEP_S, math.ceil(self.seconds / MOST_POINTS))

    def fill(self, expression: str) -> str:
        """Return an expression with the period and the window that it names."""
        window = max(WINDOW_S, self.step_s)
        named = {"$period": f"{self.seconds}s", "$window": f"{window}s", "$seconds": str(self.seconds)}
        for name, value in named.items():
            expression = expression.replace(name, value)
        return expression


@dataclass(frozen=True, slots=True)
class Line:
    """One series."""

    labels: Mapping[str, str]
    points: Points


class Prometheus:
    """A running Prometheus; a context manager. Every method raises CorralError with what is wrong and its mend."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._web = httpx.Client(timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._web.close()

    def at(self, expression: str, period: Period) -> list[Line]:
        """Return what an expression is at the period's end, one point a series."""
        data = self._ask("query", query=period.fill(expression), time=period.end)
        return [Line(one["metric"], [_point(one["value"])]) for one in data["result"]]

    def over(self, expression: str, period: Period) -> list[Line]:
        """Return what an expression was in the period."""
        data = self._ask(
            "query_range", query=period.fill(expression), start=period.start, end=period.end, step=period.step_s
        )
        return [Line(one["metric"], [_point(each) for each in one["values"]]) for one in data["result"]]

    def first_sample(self, period: Period) -> float | None:
        """Return when its series of gpu-servers begin, if that is within the period; None if there are none."""
        lines = self.over('count(up{job="gpu-server"})', period)
        return min((line.points[0][0] for line in lines), default=None)

    def _ask(self, what: str, **parameters: Any) -> dict[str, Any]:
        try:
            answer = self._web.get(f"{self._url}/api/v1/{what}", params=parameters)
            document = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CorralError(
                f"no Prometheus answers at {self._url} ({str(error) or type(error).__name__})",
                "start it (make monitoring), or name another with --prometheus http://HOST:PORT",
            ) from None
        except ValueError:
            raise self._stranger() from None
        if not isinstance(document, dict) or "status" not in document:
            raise self._stranger()
        if document["status"] != "success":
            raise CorralError(
                f"Prometheus at {self._url} refuses a question: {document.get('error')}",
                "a shorter --since may be within its limits",
            )
        data: dict[str, Any] = document["data"]
        return data

    def _stranger(self) -> CorralError:
        return CorralError(
            f"{self._url} does not answer like a Prometheus", "give its address with --prometheus http://HOST:PORT"
        )


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
