"""Faults on a running server: how long until somebody is told, and told that it is over.

The real gpu-server, Prometheus, Alertmanager and exporters with the shipped rules and routes; only their times are
divided, so that an alert's minute is a second. Faults of cards, hosts and dumps: test_drills.py.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest

from corral.render.prometheus import probes
from support.alerting import FASTER, SHIPPED, faster, running
from support.alerting_stack import Alerting, alerting, promise, scrape
from support.gpu_servers import GpuServer, chat
from support.ports import free_port
from support.tls import Authority, TlsServer, tls_server
from support.tools import tool
from support.waiting import wait_until

pytestmark = pytest.mark.integration

STALL_S = 2
PAGED_WITHIN_S = 30
YEAR = timedelta(days=365)


@dataclass
class Told(Alerting):
    """A gpu-server and what stands beside it, watched; and who is told of it."""

    server: GpuServer
    node_exporter: "subprocess.Popen[bytes]"
    authority: Authority
    behind_tls: list[TlsServer]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    tmp_path = tmp_path_factory.mktemp("told")
    node, blackbox = tool("prometheus-node-exporter"), tool("prometheus-blackbox-exporter", "blackbox_exporter")
    node_port, blackbox_port = free_port(), free_port()
    with ExitStack() as stack:
        server = stack.enter_context(GpuServer(tmp_path / "server.log", STALL_TIMEOUT_S=STALL_S))
        authority = Authority(tmp_path)
        behind_tls = [stack.enter_context(tls_server(authority.signed(YEAR))) for _ in range(4)]
        node_exporter = stack.enter_context(
            running(
                tmp_path / "node.log",
                node,
                f"--web.listen-address=127.0.0.1:{node_port}",
                "--collector.disable-defaults",
            )
        )
        stack.enter_context(
            running(
                tmp_path / "blackbox.log", blackbox, f"--config.file={SHIPPED / 'blackbox' / 'blackbox.yml'}",
                f"--web.listen-address=127.0.0.1:{blackbox_port}", SSL_CERT_FILE=str(authority.file),
            )
        )  # fmt: skip
        scrapes = [
            scrape("gpu-server", {server.port: {"server": "chat-1", "host": "here", "model": "chat", "mode": "chat"}}),
            scrape("node", {node_port: {"host": "here"}}),
            dict(probes([each.url for each in behind_tls], f"127.0.0.1:{blackbox_port}")),
        ]
        # fails as soon as one probe ends otherwise than the others
        fragile = {"record": "fragile", "expr": 'vector(1) * on () count_values("was", probe_success)'}
        groups = [
            {"name": "farm", "rules": [promise("corral_model_servers", model="chat")]},
            {"name": "fragile", "rules": [fragile]},
        ]
        watching = stack.enter_context(alerting(tmp_path, scrapes, groups, by=FASTER))
        server.ready()
        wait_until(lambda: watching.api.query("gpu_server_requests_total"), 20, "a scrape")
        yield Told(watching.people, watching.heart, watching.api, server, node_exporter, authority, behind_tls)


def test_a_hung_llama_server_pages_somebody_and_its_recovery_is_told(told: Told) -> None:
    server, people, api = told.server, told.people, told.api
    assert server.client.post("/v1/chat/completions", json=chat()).status_code == 200
    wait_until(lambda: told.heart.first("DeadMansSwitch", "firing"), 20, "the heartbeat")
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


def test_a_gpu_server_that_does_not_answer_pages_somebody_and_so_do_its_model_and_its_host(told: Told) -> None:
    server, people = told.server, told.people
    told.without("GpuServerDown", "ModelGone", "HostDown")
    stopped = time.monotonic()
    server.process.send_signal(signal.SIGSTOP)
    try:
        down = wait_until(lambda: people.first("GpuServerDown", "firing", stopped), PAGED_WITHIN_S, "the page")
        gone = wait_until(lambda: people.first("ModelGone", "firing", stopped), PAGED_WITHIN_S, "the model's page")
        told.node_exporter.send_signal(signal.SIGSTOP)
        silent = time.monotonic()
        host = wait_until(lambda: people.first("HostDown", "firing", silent), PAGED_WITHIN_S, "the host's page")
    finally:
        told.node_exporter.send_signal(signal.SIGCONT)
        server.process.send_signal(signal.SIGCONT)
    over = [
        wait_until(lambda name=name: people.first(name, "resolved", silent), 40, f"the end of {name}")
        for name in ("GpuServerDown", "ModelGone", "HostDown")
    ]
    print(
        f"GpuServerDown {down - stopped:.1f} s, ModelGone {gone - stopped:.1f} s after the stop; "
        f"HostDown {host - silent:.1f} s after its exporter's; resolved after "
        f"{', '.join(f'{at - stopped:.1f}' for at in over)} s"
    )


@contextmanager
def asking(server: GpuServer, requests: int) -> Iterator[None]:
    """Have so many clients wait for long answers; they leave at the end."""
    done = threading.Event()

    def ask() -> None:
        body = chat(max_tokens=1500, stream=True, ignore_eos=True)
        with server.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            for _ in answer.iter_raw():
                if done.is_set():
                    return

    def left() -> None:
        try:
            ask()
        except httpx.HTTPError:
            assert done.is_set()

    threads = [threading.Thread(target=left) for _ in range(requests)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_faults_beside_the_servers_are_told_and_so_are_their_ends(told: Told) -> None:
    """All at a time: an exporter that hangs, certificates that end, a refusing address, a queue, a rule, a webhook."""
    expected = {
        "ScrapeGone", "CertificateExpiring", "CertificateAboutToEnd", "ProbeFailing", "ModelQueueGrowing",
        "RulesFailing", "NotificationsFailing",
    }  # fmt: skip
    told.without("ModelGone")
    warned, paged, refusing, ended = told.behind_tls
    broken = time.monotonic()
    warned.renew(told.authority.signed(timedelta(days=10)))
    paged.renew(told.authority.signed(timedelta(days=2)))
    ended.renew(told.authority.signed(timedelta(days=-1)))
    refusing.status = 503
    told.heart.refusing = True
    told.node_exporter.send_signal(signal.SIGSTOP)
    try:
        with asking(told.server, 6):  # two slots
            came = {
                name: wait_until(lambda name=name: told.people.first(name, "firing", broken), PAGED_WITHIN_S, name)
                for name in sorted(expected)
            }
    finally:
        mended = time.monotonic()
        told.node_exporter.send_signal(signal.SIGCONT)
        refusing.status = 200
        told.heart.refusing = False
        for each in (warned, paged, ended):
            each.renew(told.authority.signed(YEAR))
    looking_back = {"RulesFailing", "NotificationsFailing"}  # over a quarter of an hour, and ten minutes
    over = {
        name: wait_until(lambda name=name: told.people.first(name, "resolved", mended), 40, f"the end of {name}")
        for name in sorted(expected - looking_back)
    }
    wait_until(lambda: told.heart.first("DeadMansSwitch", "firing", mended), 40, "the heartbeat, tried again")
    told_of = {
        (name, alert["labels"]["instance"])
        for _, alert in told.people.came
        if (name := alert["labels"]["alertname"]).startswith(("Certificate", "Probe"))
    }
    assert told_of - {("CertificateExpiring", paged.url)} == {  # kept back unless it is the first to come
        ("CertificateExpiring", warned.url), ("CertificateAboutToEnd", paged.url), ("ProbeFailing", refusing.url),
        ("ProbeFailing", ended.url),
    }  # fmt: skip
    for name, at in came.items():
        end = f", resolved {over[name] - mended:.1f} s after the mend" if name in over else ""
        print(f"{name} {at - broken:.1f} s after the fault{end}")


def test_times_are_divided_where_they_should_be() -> None:
    text = "expr: rate(x[5m]) unless (x offset 15m)\n    for: 1m\n  group_wait: 10s\n{le='5.0'}"
    assert faster(text) == "expr: rate(x[5s]) unless (x offset 15s)\n    for: 1s\n  group_wait: 1s\n{le='5.0'}"
    assert faster("rate(x[5m])\n    for: 1h", 600) == "rate(x[4s])\n    for: 6s"
