"""A llama-server that hangs: how long until somebody is told, and told that it is over.

The real gpu-server, Prometheus and Alertmanager with the shipped rules and routes; only their times are divided, so
that an alert's minute is a second.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import yaml

from support.alerting import SHIPPED, Webhook, faster, listening, running, shipped_routes, webhook
from support.gpu_servers import GpuServer, chat
from support.ports import free_port
from support.promql import Prometheus
from support.tools import tool
from support.waiting import wait_until

pytestmark = pytest.mark.integration

STALL_S = 2
PAGED_WITHIN_S = 30


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GpuServer, Webhook, Prometheus]]:
    """A gpu-server, watched; and who is told of it."""
    tmp_path = tmp_path_factory.mktemp("told")
    prometheus, alertmanager = tool("prometheus"), tool("prometheus-alertmanager", "alertmanager")
    with ExitStack() as stack:
        people = stack.enter_context(webhook())
        server = stack.enter_context(GpuServer(tmp_path / "server.log", STALL_TIMEOUT_S=STALL_S))
        ports = [free_port(), free_port()]
        routes = shipped_routes(tmp_path, people.url)
        for name in ("alerts.yml", "recording.yml"):
            (tmp_path / name).write_text(faster((SHIPPED / "prometheus" / "rules" / name).read_text()))
        promised = {"record": "corral_model_servers", "expr": "vector(1)", "labels": {"model": "chat"}}
        (tmp_path / "farm.yml").write_text(yaml.safe_dump({"groups": [{"name": "farm", "rules": [promised]}]}))
        labels = {"server": "chat-1", "host": "here", "model": "chat", "mode": "chat"}
        targets = [{"targets": [f"127.0.0.1:{server.port}"], "labels": labels}]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yml", "recording.yml", "farm.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports[1]}"]}]}]},
            "scrape_configs": [
                {"job_name": "gpu-server", "static_configs": targets},
                {"job_name": "alertmanager", "static_configs": [{"targets": [f"127.0.0.1:{ports[1]}"]}]},
            ],
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


def test_a_gpu_server_that_does_not_answer_pages_somebody_and_its_model_with_it(
    told: tuple[GpuServer, Webhook, Prometheus],
) -> None:
    server, people, api = told
    wait_until(lambda: set(api.alerts()) == {"DeadMansSwitch"}, 30, "calm")
    stopped = time.monotonic()
    server.process.send_signal(signal.SIGSTOP)
    try:
        down = wait_until(lambda: people.first("GpuServerDown", "firing", stopped), PAGED_WITHIN_S, "the page")
        gone = wait_until(lambda: people.first("ModelGone", "firing", stopped), PAGED_WITHIN_S, "the model's page")
    finally:
        server.process.send_signal(signal.SIGCONT)
    over = [
        wait_until(lambda name=name: people.first(name, "resolved", stopped), 40, f"the end of {name}")
        for name in ("GpuServerDown", "ModelGone")
    ]
    print(
        f"GpuServerDown {down - stopped:.1f} s, ModelGone {gone - stopped:.1f} s after the stop; "
        f"resolved after {', '.join(f'{at - stopped:.1f}' for at in over)} s"
    )


def test_a_webhook_that_refuses_is_tried_again_and_its_refusal_is_an_alert(
    told: tuple[GpuServer, Webhook, Prometheus],
) -> None:
    server, people, api = told
    wait_until(lambda: set(api.alerts()) == {"DeadMansSwitch"}, 30, "calm")
    people.refusing = True
    stopped = time.monotonic()
    server.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: people.refused >= 2, PAGED_WITHIN_S, "a second try")
        wait_until(lambda: api.alerts().get("NotificationsFailing") == "firing", 60, "the alert about it")
        assert people.first("GpuServerDown", "firing", stopped) is None
        people.refusing = False
        mended = time.monotonic()
        down = wait_until(lambda: people.first("GpuServerDown", "firing", stopped), 60, "the page that was held up")
        failing = wait_until(lambda: people.first("NotificationsFailing", "firing", mended), 60, "what had failed")
    finally:
        people.refusing = False
        server.process.send_signal(signal.SIGCONT)
    print(f"after {people.refused} refusals, told {down - mended:.1f} and {failing - mended:.1f} s after the mend")


def test_times_are_divided_where_they_should_be() -> None:
    text = "expr: rate(x[5m])\n    for: 1m\n  group_wait: 10s\n{le='5.0'}"
    assert faster(text) == "expr: rate(x[5s])\n    for: 1s\n  group_wait: 1s\n{le='5.0'}"
