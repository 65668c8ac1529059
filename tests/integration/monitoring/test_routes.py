"""Whom a real Alertmanager tells of what, by the routes that are shipped."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from support.alerting import Webhook, listening, running, shipped_routes, webhook
from support.ports import free_port
from support.smtp_receiver import smtp_receiver
from support.tls import Authority
from support.tools import tool
from support.waiting import wait_until

pytestmark = pytest.mark.integration


@contextmanager
def running_alertmanager(folder: Path, routes: Path, **environment: str) -> Iterator[str]:
    program, port = tool("prometheus-alertmanager", "alertmanager"), free_port()
    command = [
        program, f"--config.file={routes}", "--cluster.listen-address=", f"--storage.path={folder / 'alerts'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with running(folder / "alertmanager.log", *command, **environment):
        wait_until(lambda: listening(port), 20, "Alertmanager to be ready")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[tuple[str, Webhook]]:
    with webhook() as people, running_alertmanager(tmp_path, shipped_routes(tmp_path, people.url)) as url:
        yield url, people


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
    others = [
        alert("GpuServerDown", host="other", server="qwen-3"),
        alert("ModelGone", model="qwen"),
        # whose card is lost gives up soon: the cause is told beside what follows from it
        alert("GpuServerFailed", host="other", server="qwen-4"),
        alert("GpuLost", host="other", server="qwen-4"),
    ]
    of_model = alert("TtftBudgetBurnsFast", model="qwen")
    page, certificate = (
        alert("CertificateAboutToEnd", instance="https://x/"),
        alert("CertificateExpiring", instance="https://x/"),
    )
    post = [alert("HostDown", host="box"), page, certificate, of_model, *follows, *others]
    assert httpx.post(f"{url}/api/v2/alerts", json=post, trust_env=False).status_code == 200
    wait_until(lambda: len(people.came) >= 6, 20, "six alerts")
    wait_until(lambda: active(url, "inhibited") == 5, 10, "five alerts to be kept back")
    told = {(one["labels"]["alertname"], one["labels"].get("host", "")) for _, one in people.came}
    assert told == {
        ("HostDown", "box"), ("GpuServerDown", "other"), ("GpuServerFailed", "other"), ("GpuLost", "other"),
        ("ModelGone", ""), ("CertificateAboutToEnd", ""),
    }  # fmt: skip


def test_a_page_that_the_webhook_refuses_is_sent_again_until_it_is_taken(alertmanager: tuple[str, Webhook]) -> None:
    url, people = alertmanager
    people.refusing = True
    page = alert("GpuServerDown", host="box", server="qwen-1")
    assert httpx.post(f"{url}/api/v2/alerts", json=[page], trust_env=False).status_code == 200
    wait_until(lambda: people.refused >= 2, 20, "a second try")
    assert people.came == []
    people.refusing = False
    wait_until(lambda: people.first("GpuServerDown", "firing"), 20, "the page that was held up")


def test_the_next_key_near_its_budget_waits_less_than_other_warnings_and_hundreds_come_in_few_messages(
    alertmanager: tuple[str, Webhook],
) -> None:
    url, people = alertmanager

    def warn(*which: dict[str, str]) -> None:
        post = [{"labels": {"severity": "warning", **labels}} for labels in which]
        assert httpx.post(f"{url}/api/v2/alerts", json=post, trust_env=False).status_code == 200

    def told(*which: dict[str, str]) -> bool:
        came = [one["labels"].items() for _, one in people.came]
        return all(any(labels.items() <= each for each in came) for labels in which)

    def key(name: str) -> dict[str, str]:
        return {"alertname": "KeyNearBudget", "api_key_alias": name}

    def card(name: str) -> dict[str, str]:
        return {"alertname": "GpuHot", "host": "box", "gpu": name}

    warn(key("first"), card("first"))
    wait_until(lambda: told(key("first"), card("first")), 20, "the first ones")
    warn(key("second"), card("second"))
    wait_until(lambda: told(key("second")), 20, "the second key")
    assert not told(card("second"))
    before, many = people.messages, [key(f"key-{number}") for number in range(300)]
    warn(*many)
    wait_until(lambda: told(*many), 20, "all of them")
    assert people.messages - before <= 4


def test_an_alert_and_its_end_come_by_mail_over_tls_after_a_login(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with smtp_receiver(authority.signed(timedelta(days=9))) as post, webhook() as people:
        mail = {
            "ALERT_MAIL_TO": "ops@x.example", "ALERT_MAIL_FROM": "farm@x.example", "ALERT_SMTP_HOST": post.address,
            "ALERT_SMTP_USER": "farm: 'x'", "ALERT_SMTP_PASSWORD": "p'a\"s: #{}$(id)`id`",
        }  # fmt: skip
        routes = shipped_routes(tmp_path, people.url, **mail)
        with running_alertmanager(tmp_path, routes, SSL_CERT_FILE=str(authority.file)) as url:
            firing = alert("ModelGone", model="qwen")
            over = {**firing, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2026-01-01T00:00:01Z"}
            for one, kind in ((firing, "FIRING"), (over, "RESOLVED")):
                assert httpx.post(f"{url}/api/v2/alerts", json=[one], trust_env=False).status_code == 200
                wait_until(lambda kind=kind: any(kind in mail["Subject"] for mail in post.mail), 20, f"{kind} by mail")
    assert {(mail["From"], mail["To"]) for mail in post.mail} == {("farm@x.example", "ops@x.example")}
    assert all("ModelGone" in mail["Subject"] for mail in post.mail)
    assert set(post.logins) == {(mail["ALERT_SMTP_USER"], mail["ALERT_SMTP_PASSWORD"])}


def active(url: str, state: str) -> int:
    alerts = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
    return sum(bool(one["status"][f"{state}By"]) for one in alerts)
