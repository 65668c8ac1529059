"""Whom a real Alertmanager tells of what, by the routes that are shipped."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.alerting import Webhook, listening, running, shipped_routes, webhook
from support.ports import free_port
from support.tools import tool
from support.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[tuple[str, Webhook]]:
    program, port = tool("prometheus-alertmanager", "alertmanager"), free_port()
    with webhook() as people:
        routes = shipped_routes(tmp_path, people.url)
        command = [
            program, f"--config.file={routes}", "--cluster.listen-address=", f"--storage.path={tmp_path / 'alerts'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        with running(tmp_path / "alertmanager.log", *command):
            wait_until(lambda: listening(port), 20, "Alertmanager to be ready")
            yield f"http://127.0.0.1:{port}", people


def alert(name: str, **labels: str) -> dict[str, dict[str, str]]:
    return {"labels": {"alertname": name, "severity": "page", **labels}}


def test_a_host_that_is_down_keeps_back_what_follows_from_it_and_nothing_else(
    alertmanager: tuple[str, Webhook],
) -> None:
    url, people = alertmanager
    follows = [
        alert("GpuServerDown", host="box", server="qwen-1"),
        alert("GpuLost", host="box", server="qwen-2"),
        alert("GateDown", host="box"),
    ]
    others = [alert("GpuServerDown", host="other", server="qwen-3"), alert("ModelGone", model="qwen")]
    of_model = alert("TtftBudgetBurnsFast", model="qwen")
    page, certificate = (
        alert("CertificateAboutToEnd", instance="https://x/"),
        alert("CertificateExpiring", instance="https://x/"),
    )
    post = [alert("HostDown", host="box"), page, certificate, of_model, *follows, *others]
    assert httpx.post(f"{url}/api/v2/alerts", json=post, trust_env=False).status_code == 200
    wait_until(lambda: len(people.came) >= 4, 20, "four alerts")
    wait_until(lambda: active(url, "inhibited") == 5, 10, "five alerts to be kept back")
    told = {(one["labels"]["alertname"], one["labels"].get("host", "")) for _, one in people.came}
    assert told == {("HostDown", "box"), ("GpuServerDown", "other"), ("ModelGone", ""), ("CertificateAboutToEnd", "")}


def active(url: str, state: str) -> int:
    alerts = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
    return sum(bool(one["status"][f"{state}By"]) for one in alerts)
