"""Prometheus and Alertmanager with the shipped rules and routes, watching what a test gives them to watch.

Only times are divided, so that an alert's minute is a second or less.

    with alerting(folder, [scrape("gpu-server", {port: {"server": "chat-1"}})], groups, by=60) as told:
        drills = Drills(told.people)
        ...                       # break something
        drills.begin("GpuServerDown")
        drills.told("GpuServerDown")
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.alerting import SHIPPED, Webhook, faster, listening, running, shipped_routes, webhook
from support.ports import free_port
from support.promql import Prometheus
from support.tools import tool
from support.waiting import wait_until

TOLD_WITHIN_S = 60.0
Groups = Sequence[Mapping[str, Any]]


@dataclass
class Alerting:
    """A running Prometheus, who is told what its alerts say, and who gets its heartbeat."""

    people: Webhook
    heart: Webhook
    api: Prometheus

    def without(self, *alerts: str) -> None:
        """Wait until these are over: those of an earlier test, or what would keep others back."""
        wait_until(lambda: not set(alerts) & set(self.api.alerts()), 30, f"the end of {', '.join(alerts)}")


def scrape(job: str, ports: Mapping[int, Mapping[str, str]]) -> dict[str, Any]:
    """Return a scrape job of ports on the loopback, each with the labels that its series get."""
    groups = [{"targets": [f"127.0.0.1:{port}"], "labels": dict(labels)} for port, labels in ports.items()]
    return {"job_name": job, "static_configs": groups}


def promise(record: str, value: float = 1, **labels: str) -> dict[str, Any]:
    """Return a rule as rules/farm.yml has it: what a farm file says, as a series."""
    return {"record": record, "expr": f"vector({value})", "labels": labels}


@contextmanager
def alerting(folder: Path, scrapes: Sequence[Mapping[str, Any]], groups: Groups, *, by: int) -> Iterator[Alerting]:
    """Run both on free ports; a scrape and a look at all rules every second.

    Args:
        folder: for configuration, series and logs.
        scrapes: scrape jobs; those of the two themselves are added.
        groups: rule groups beside the shipped ones.
        by: what the times of rules and routes are divided by.
    """
    prometheus, alertmanager = tool("prometheus"), tool("prometheus-alertmanager", "alertmanager")
    api_port, alerts_port = free_port(), free_port()
    for name in ("alerts.yml", "recording.yml"):
        (folder / name).write_text(faster((SHIPPED / "prometheus" / "rules" / name).read_text(), by))
    (folder / "more.yml").write_text(yaml.safe_dump({"groups": [dict(group) for group in groups]}))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml", "recording.yml", "more.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alerts_port}"]}]}]},
        "scrape_configs": [
            *map(dict, scrapes), scrape("alertmanager", {alerts_port: {}}), scrape("prometheus", {api_port: {}}),
        ],
    }  # fmt: skip
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (
        webhook() as people,
        webhook() as heart,
        running(
            folder / "prometheus.log", prometheus, f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'series'}", f"--web.listen-address=127.0.0.1:{api_port}",
            "--rules.alert.resend-delay=1s",
        ),
        running(
            folder / "alertmanager.log", alertmanager, "--cluster.listen-address=",
            f"--config.file={shipped_routes(folder, people.url, by, ALERT_HEARTBEAT_URL=heart.url)}",
            f"--storage.path={folder / 'alerts'}", f"--web.listen-address=127.0.0.1:{alerts_port}",
        ),
    ):  # fmt: skip
        for port in (api_port, alerts_port):
            wait_until(lambda port=port: listening(port), 20, f"port {port} to be ready")
        api = Prometheus(f"http://127.0.0.1:{api_port}")
        try:
            yield Alerting(people, heart, api)
        finally:
            api.close()


class Drills:
    """When faults began and ended, and when somebody was told of it: lines for the table in docs/monitoring.md."""

    def __init__(self, people: Webhook) -> None:
        self._people = people
        self._began: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def begin(self, *alerts: str) -> None:
        """Say that what these alerts are about has just begun."""
        self._began |= dict.fromkeys(alerts, time.monotonic())

    def happen(self, *alerts: str) -> None:
        """Say that it has just been, and is over: an event that is counted."""
        now = time.monotonic()
        self._began |= dict.fromkeys(alerts, now)
        self._ended |= dict.fromkeys(alerts, now)

    def end(self, *alerts: str) -> None:
        """Say that it has just ended."""
        self._ended |= dict.fromkeys(alerts, time.monotonic())

    def told(self, *alerts: str) -> None:
        """Wait until somebody was told of each of these faults."""
        for name in alerts:
            self._told[name] = wait_until(
                lambda name=name: self._people.first(name, "firing", self._began[name]), TOLD_WITHIN_S, name
            )

    def over(self) -> None:
        """Wait until somebody was told of each fault's end, and print what that took."""
        for name, ended in self._ended.items():
            over = wait_until(
                lambda name=name, ended=ended: self._people.first(name, "resolved", ended),
                TOLD_WITHIN_S,
                f"the end of {name}",
            )
            began, told = self._began[name], self._told[name]
            since = "the fault" if ended == began else "its end"
            print(f"{name}: told {told - began:.1f} s after the fault, over {over - ended:.1f} s after {since}")
