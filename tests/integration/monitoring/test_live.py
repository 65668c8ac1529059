"""A llama-server that hangs: how long until somebody is told, and told that it is over.

The real gpu-server, Prometheus and Alertmanager with the shipped rules and routes; only their times are divided, so
that an alert's minute is a second.
"""

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from support.gpu_servers import GpuServer, chat
from support.ports import free_port
from support.promql import Prometheus
from support.tools import tool
from support.waiting import wait_until

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).parents[3]
SHIPPED = CHECKOUT / "monitoring"
FASTER = 60
STALL_S = 2
PAGED_WITHIN_S = 30
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Webhook(ThreadingHTTPServer):
    """Keeps the alerts that are sent to it, with the moment they came at."""

    def __init__(self) -> None:
        self.came: list[tuple[float, dict[str, Any]]] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook.came += [(time.monotonic(), alert) for alert in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def first(self, name: str, status: str) -> float | None:
        """Return when an alert first came in a status."""
        for at, alert in self.came:
            if (alert["labels"]["alertname"], alert["status"]) == (name, status):
                return at
        return None


@contextmanager
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running(log: Path, *command: str | Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def faster(text: str) -> str:
    """Divide the times of rules and routes, none below a second; a range keeps three scrapes."""

    def divided(found: re.Match[str]) -> str:
        least = 4 if found[1] == "[" else 1
        return f"{found[1]}{max(least, round(int(found[2]) * SECONDS[found[3]] / FASTER))}s{found[4]}"

    text = re.sub(r"(\[)(\d+)([smhd])(\])", divided, text)
    return re.sub(
        r"(for: |group_wait: |group_interval: |repeat_interval: )(\d+)([smhd])($)", divided, text, flags=re.MULTILINE
    )


def listening(port: int, path: str = "/-/ready") -> bool:
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code == 200


@pytest.fixture
def told(tmp_path: Path) -> Iterator[tuple[GpuServer, Webhook, Prometheus]]:
    """A gpu-server, watched; and who is told of it."""
    prometheus, alertmanager = tool("prometheus"), tool("prometheus-alertmanager", "alertmanager")
    with ExitStack() as stack:
        people = stack.enter_context(webhook())
        server = stack.enter_context(GpuServer(tmp_path / "server.log", STALL_TIMEOUT_S=STALL_S))
        ports = [free_port(), free_port()]
        environment = {"ALERT_WEBHOOK_URL": people.url, "ALERT_HEARTBEAT_URL": people.url, "PATH": "/usr/bin:/bin"}
        subprocess.run(
            ["sh", SHIPPED / "alertmanager" / "configure.sh", tmp_path], env=environment, check=True, timeout=10
        )
        routes = tmp_path / "alertmanager.yml"
        routes.write_text(faster(routes.read_text()))
        for name in ("alerts.yml", "recording.yml"):
            (tmp_path / name).write_text(faster((SHIPPED / "prometheus" / "rules" / name).read_text()))
        labels = {"server": "chat-1", "host": "here", "model": "chat", "mode": "chat"}
        targets = [{"targets": [f"127.0.0.1:{server.port}"], "labels": labels}]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yml", "recording.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports[1]}"]}]}]},
            "scrape_configs": [{"job_name": "gpu-server", "static_configs": targets}],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        stack.enter_context(
            running(
                tmp_path / "prometheus.log", prometheus, f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'series'}", f"--web.listen-address=127.0.0.1:{ports[0]}",
                "--rules.alert.resend-delay=1s",
            )
        )  # fmt: skip
        stack.enter_context(
            running(
                tmp_path / "alertmanager.log", alertmanager, f"--config.file={routes}", "--cluster.listen-address=",
                f"--storage.path={tmp_path / 'alerts'}", f"--web.listen-address=127.0.0.1:{ports[1]}",
            )
        )  # fmt: skip
        server.ready()
        for port in ports:
            wait_until(lambda port=port: listening(port), 20, f"port {port} to be ready")
        api = Prometheus(f"http://127.0.0.1:{ports[0]}")
        stack.callback(api.close)
        wait_until(lambda: api.query("gpu_server_requests_total"), 20, "a scrape")
        yield server, people, api


def test_a_hung_llama_server_pages_somebody_and_its_recovery_is_told(
    told: tuple[GpuServer, Webhook, Prometheus],
) -> None:
    server, people, api = told
    assert server.client.post("/v1/chat/completions", json=chat()).status_code == 200
    wait_until(lambda: people.first("DeadMansSwitch", "firing"), 20, "the heartbeat")
    wait_until(
        lambda: "ModelGone" not in api.alerts() and not api.query('gpu_server_state{state="ready"} == 0'), 5, "calm"
    )
    assert people.first("GpuServerStalled", "firing") is None

    server.child().send_signal(signal.SIGSTOP)
    hung = time.monotonic()
    paged = wait_until(lambda: people.first("GpuServerStalled", "firing"), PAGED_WITHIN_S, "the page")
    wait_until(lambda: server.state() == "ready", 30, "its recovery")
    over = wait_until(lambda: people.first("GpuServerStalled", "resolved"), 40, "its end to be told")
    assert hung < paged < over
    assert server.client.post("/v1/chat/completions", json=chat()).status_code == 200
    (alert,) = {
        alert["labels"]["server"] for _, alert in people.came if alert["labels"]["alertname"] == "GpuServerStalled"
    }
    assert alert == "chat-1"
    print(f"paged {paged - hung:.1f} s after the hang (stall timeout {STALL_S} s), resolved after {over - hung:.1f} s")


def test_times_are_divided_where_they_should_be() -> None:
    text = "expr: rate(x[5m])\n    for: 1m\n  group_wait: 10s\n{le='5.0'}"
    assert faster(text) == "expr: rate(x[5s])\n    for: 1s\n  group_wait: 1s\n{le='5.0'}"
