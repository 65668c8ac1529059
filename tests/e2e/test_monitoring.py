"""Every expression of rules and dashboards, asked of a real Prometheus that watches a real farm at work.

The farm is the one-machine farm, started by `corral up` and watched by `corral monitoring`. It has no GPU, so the
card's series come from the gpu-server's own exporter, given a sample such as NVML gives; all else is measured.
"""

import base64
import contextlib
import os
import pty
import re
import select
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from corral.envfile import parse_env
from corral.errors import CorralError
from corral.monitoring.catalogue import needs_gpu
from corral.paths import StateDir
from corral.render.gate_metrics import SETTINGS
from corral.report.contents import PLOTS, TABLES
from corral.request_trail import FileLogs, Trail, follow
from corral_dashboards.all import DASHBOARDS
from gpu_server.gpu import MEANINGS, GpuMonitor, Sample, Xid
from support.alerting_stack import Drills, alerting
from support.farm import CHECKOUT, CORRAL, LAPTOP, Farm, farm_in
from support.promql import Prometheus, unknown
from support.tls import Authority, tls_server
from support.tools import tool
from support.waiting import wait_until

pytestmark = pytest.mark.e2e

RULES = CHECKOUT / "monitoring" / "prometheus" / "rules"
ALIAS = "watched <b>&$x$"  # none of it may be taken for more than a name
UUID = "GPU-5d2b7a10-0c3e-4b1d-9d6e-1f2a3b4c5d6e"
CARD_LABELS = {"server": "chat-1", "host": "here", "model": "chat", "mode": "chat"}

# What has no series while all is well, and the labels that it gets then: as the gate's settings and the alerts say.
(_COOLED,) = (
    group["include_labels"]
    for group in SETTINGS["prometheus_metrics_config"]
    if "litellm_deployment_cooled_down" in group["metrics"]
)
assert _COOLED == ["litellm_model_name", "model_id"], "see the relabelling in corral/render/prometheus.py"
RARE = {
    "litellm_deployment_cooled_down_total": {"server", "litellm_model_name", "job", "instance", "host"},
    "litellm_deployment_failure_responses_total": {"server"},  # none, where the gate itself refuses
    "ALERTS": {"host", "server", "model", "gpu"},
    # of a gate in containers only: tests/compose/test_run_backup.py reads it
    "corral_host_nightly_dump": {"host"},
    "corral_backup_last_dump_timestamp_seconds": {"host"},
}


@dataclass
class Watched:
    """A farm at work, and the Prometheus that watches it."""

    farm: Farm
    prometheus: Prometheus
    empty_without_card: set[str]


def card() -> bytes:
    """Return a card's series, as the gpu-server's exporter writes them."""
    readings = {
        "gpu_utilization_ratio": 0.75, "gpu_memory_utilization_ratio": 0.2, "gpu_memory_used_bytes": 6.1e9,
        "gpu_memory_total_bytes": 8.5e9, "gpu_power_watts": 82.5, "gpu_power_limit_watts": 90.0,
        "gpu_temperature_celsius": 63.0, "gpu_pcie_link_generation": 1.0, "gpu_pcie_link_width": 4.0,
    }  # fmt: skip
    assert set(readings) == set(MEANINGS), "the exporter knows other readings"
    monitor = GpuMonitor(None, lambda _cause: None)
    monitor.samples = [
        Sample(
            UUID, "P104-100", readings, {"sm": 1.733e9, "memory": 5.005e9}, {"sw_power_cap": True, "hw_thermal": False},
            {"corrected": 0.0, "uncorrected": 0.0},
        )
    ]  # fmt: skip
    monitor.xids[Xid(UUID, 79)] = 1
    registry = CollectorRegistry()
    registry.register(monitor)
    # what rules/farm.yml would promise of a farm file with a card in it
    Gauge("corral_server_gpu", "", registry=registry).set(1)
    Gauge("corral_server_power_limit_watts", "", registry=registry).set(90)
    return generate_latest(registry)


@pytest.fixture(scope="module")
def card_exporter() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(card())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, card_exporter: str) -> Iterator[Watched]:
    for name in (
        ("prometheus",), ("prometheus-alertmanager", "alertmanager"), ("prometheus-node-exporter",),
        ("prometheus-blackbox-exporter", "blackbox_exporter"),
    ):  # fmt: skip
        tool(*name)
    folder = tmp_path_factory.mktemp("watched")
    authority = Authority(folder)
    file = folder / "corral.yaml"
    text = LAPTOP.read_text()
    assert "monitoring: {}" in text
    file.write_text(text)
    with tls_server(authority.signed(timedelta(days=365))) as behind_tls, farm_in(folder / "state") as farm:
        farm.environment |= {"CORRAL_FILE": str(file), "SSL_CERT_FILE": str(authority.file)}
        farm.up()
        farm.corral("monitoring", timeout_s=120)
        # what is switched on stays on, and as the farm file says
        file.write_text(
            text.replace("monitoring: {}", f"monitoring: {{scrape_interval_s: 1, probes: [{behind_tls.url}]}}")
        )
        assert "monitoring" in farm.corral("apply", timeout_s=120).stdout
        prometheus = Prometheus(f"http://127.0.0.1:{farm.part('prometheus')['port']}")
        wait_until(lambda: prometheus.query("litellm_in_flight_requests"), 20, "a first look at the gate")
        client = farm.client(farm.new_key("--alias", ALIAS, "--budget", "5"))

        def worked(expressions: tuple[str, ...]) -> bool:
            work(client)  # more than once: a series that begins with its first request has no rate before its second
            return settled(prometheus, expressions)

        wait_until(lambda: worked(OF_ALL), 90, "rules over all of it", interval_s=2)
        empty = {name for name, expr in {**PANELS, **RECORDED}.items() if not has_data(prometheus, expr)}
        add_target(farm.state, card_exporter)
        wait_until(lambda: worked(OF_CARDS), 60, "rules over the card", interval_s=2)
        yield Watched(farm, prometheus, empty)
        prometheus.close()


def add_target(state: Path, address: str) -> None:
    file = state / "monitoring" / "targets" / "gpu-servers.yml"
    groups = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump([*groups, {"targets": [address], "labels": {**CARD_LABELS}}]))


def work(client: openai.OpenAI) -> None:
    """Have each part do a little of all that it can."""
    text = f"{uuid.uuid4()}: count to three."  # first, or all go to the one server that remembers it
    messages: list[Any] = [{"role": "user", "content": text}]
    for _ in client.chat.completions.create(model="chat", messages=messages, max_tokens=8, stream=True):
        pass
    client.embeddings.create(model="embed", input="one")
    with pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model="no-such-model", messages=messages)


OF_ALL = (
    "corral:model_ttft_seconds:p95_5m >= 0", "corral:key_tokens:rate5m > 0", "corral:gate_duration_seconds:p95_5m >= 0",
    "corral:key_budget_used:ratio", "pg_up == 1", "corral:key_spend_dollars:rate1h > 0",
    "rate(corral_routing_estimate_error_seconds_count[1m]) > 0",
)  # fmt: skip
OF_CARDS = ("corral:gpu_tokens_out:rate5m > 0", "corral:model_energy_joules_per_1000_tokens:rate5m > 0")


def settled(prometheus: Prometheus, expressions: tuple[str, ...]) -> bool:
    """Say whether each has data; AssertionError with those that have none."""
    empty = [expression for expression in expressions if not prometheus.query(expression)]
    assert not empty, empty
    return True


def rules(file: str, kind: str) -> dict[str, str]:
    groups = yaml.safe_load((RULES / file).read_text())["groups"]
    return {rule[kind]: rule["expr"] for group in groups for rule in group["rules"]}


RECORDED, ALERTS = rules("recording.yml", "record"), rules("alerts.yml", "alert")
VALUES = {
    "$__rate_interval": "1m",
    "$requests_per_minute": "10",
    "$host": ".*",
    "$model": ".*",
    "$gpu": ".*",
    "$key": ".*",
}


def filled(expression: str) -> str:
    """Return a panel's expression as Grafana sends it."""
    for variable, value in VALUES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


PANELS = {
    f"{dashboard.title} / {panel.title} / {query.legend or 'value'}": filled(query.expr)
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
    for query in panel.queries
}


def has_data(prometheus: Prometheus, expression: str) -> bool:
    return any(sample["value"][1] != "NaN" for sample in prometheus.query(expression))


def test_each_recorded_series_has_data(watched: Watched) -> None:
    assert [name for name in RECORDED if not has_data(watched.prometheus, name)] == []


def test_each_panel_has_data(watched: Watched) -> None:
    assert [name for name, expr in PANELS.items() if not has_data(watched.prometheus, expr)] == []


def test_what_is_said_to_need_a_gpu_is_what_is_empty_without_one(watched: Watched) -> None:
    assert watched.empty_without_card == {name for name, expr in {**PANELS, **RECORDED}.items() if needs_gpu(expr)}


@pytest.mark.parametrize("named", [RECORDED, ALERTS, PANELS], ids=["recorded", "alerts", "panels"])
def test_no_expression_speaks_of_what_is_not_there(named: dict[str, str], watched: Watched) -> None:
    found = {name: list(unknown(expr, watched.prometheus, RARE)) for name, expr in named.items()}
    assert {name: what for name, what in found.items() if what} == {}


def test_what_is_not_there_is_named(watched: Watched) -> None:
    """Else the test above could not fail: a metric that an upgrade renames, a label that is misspelt."""

    def said(expression: str) -> list[str]:
        return list(unknown(expression, watched.prometheus, RARE))

    assert said("rate(gpu_server_request_total[5m])") == ["metric gpu_server_request_total"]
    assert said('gpu_server_state{stat="ready"}') == ["label stat of gpu_server_state"]
    assert said("sum by (modle) (gpu_server_state)") == ["label modle in sum by (modle) (gpu_server_state)"]
    assert said("up * on (server) group_left (card) gpu_info")[0].startswith("label card in")


def test_every_alert_is_evaluated_and_only_the_expected_ones_are_active(watched: Watched) -> None:
    groups = watched.prometheus.get("/rules")["groups"]
    seen = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert set(ALERTS) | set(RECORDED) <= set(seen)
    assert {name for name, health in seen.items() if health != "ok"} == set()
    wait_until(lambda: "GpuXid" in firing(watched), 30, "the alert of the card, which reports an Xid")
    assert firing(watched) == {"DeadMansSwitch", "GpuXid"}


def firing(watched: Watched) -> set[str]:
    return {name for name, state in watched.prometheus.alerts().items() if state == "firing"}


def test_all_targets_answer(watched: Watched) -> None:
    targets = watched.prometheus.get("/targets")["activeTargets"]
    assert {target["labels"]["instance"]: target["lastError"] for target in targets if target["health"] != "up"} == {}
    jobs = {target["labels"]["job"] for target in targets}
    assert jobs == {"gpu-server", "litellm", "routing", "node", "prometheus", "alertmanager", "postgres", "probe"}


def test_the_gates_series_carry_the_servers_names(watched: Watched) -> None:
    """One label for both sides: what the gate counts for a server joins what the server counts."""
    joined = watched.prometheus.query(
        "sum by (server) (litellm_deployment_success_responses_total)"
        ' and on (server) gpu_server_state{state="ready"} == 1'
    )
    assert {sample["metric"]["server"] for sample in joined} >= {"embed-1"}


def answered(client: Any, kind: str, steered: dict[str, int]) -> Any:
    """Ask something, and return the answer's headers."""
    if kind == "embedding":
        answer: Any = client.embeddings.create(model="embed", input="followed", extra_body=steered)
    else:
        messages: list[Any] = [{"role": "user", "content": f"{uuid.uuid4()}: say three words"}]
        answer = client.chat.completions.create(
            model="chat", messages=messages, max_tokens=5, stream=kind == "stream", extra_body=steered
        )
    answer.http_response.read()
    return answer.headers


def test_a_request_is_followed_by_its_id_from_the_gate_to_llama_server(watched: Watched) -> None:
    ways: list[dict[str, int]] = [{}, {"num_retries": 0}]  # the fast path; what steers LiteLLM goes its own way
    client = watched.farm.client().with_raw_response
    asked = [(kind, answered(client, kind, way)) for kind in ("whole", "stream", "embedding") for way in ways]
    for kind, headers in asked:
        request_id, server = headers["x-litellm-call-id"], headers["x-corral-server"]

        def whole(request_id: str = request_id, server: str = server) -> Trail | None:
            with contextlib.suppress(CorralError):  # lines come a moment later
                trail = follow(FileLogs(StateDir(watched.farm.state)), request_id)
                found = {(line.part, line.fields.get("server")) for line in trail.lines if line.event == "request"}
                return trail if {("litellm", "gate"), (server, None)} <= found else None
            return None

        trail = wait_until(whole, 20, f"the lines of a request to {server}")
        keys = {line.fields["key"] for line in trail.lines if line.event == "request"}
        assert len(keys) == 1, "gate and gpu-server name the same key"
        if kind != "embedding":  # llama-server times no embedding
            assert any(line.part == server and "eval time" in line.text for line in trail.lines)
    said = watched.farm.corral("logs", "--request", asked[0][1]["x-litellm-call-id"]).stdout
    assert '"server": "gate"' in said
    assert "llama-server" in said


def test_top_shows_what_is_at_work(watched: Watched) -> None:
    client, done = watched.farm.client(), threading.Event()

    def ask() -> None:
        while not done.is_set():
            work(client)

    asking = threading.Thread(target=ask)
    asking.start()
    try:

        def shown() -> str:
            said = watched.farm.corral("top", "--once").stdout
            for words in (r"chat-1 +chat +ready", r"chat-2 +chat +ready", r"embed-1 +embed +ready"):
                assert re.search(words, said), said
            assert re.search(r"BUSIEST KEYS +TOK/S +REQ/S\n\S+ +[1-9\d.]+", said), said
            return said

        wait_until(shown, 30, "a frame with a key at work", interval_s=1)
    finally:
        done.set()
        asking.join()
    servers = {server["name"]: server for server in watched.farm.status()["servers"]}
    assert {name: (server["state"], server["slots"]) for name, server in servers.items()} == {
        "chat-1": ("ready", 2), "chat-2": ("ready", 2), "embed-1": ("ready", 4),
    }  # fmt: skip


def test_top_lives_until_q(watched: Watched) -> None:
    process, terminal = pty.fork()
    if process == 0:
        state = {"CORRAL_STATE": str(watched.farm.state), "TERM": "xterm"}
        os.execve(CORRAL, ["corral", "top", "--interval", "0.2"], {**watched.farm.environment, **state})  # noqa: S606
    said, typed = b"", False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                said += os.read(terminal, 65536)
            except OSError:  # its end has been closed
                break
            if said.count(b"embed-1") > 2 and not typed:
                typed = bool(os.write(terminal, b"q"))  # once: another would be echoed by the terminal as it was
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, said
    assert said.rstrip().endswith(b"\x1b[?1049l")  # the screen that was there before is back


def test_a_report_has_all_of_it_and_needs_nothing_beside_itself(watched: Watched, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    said = watched.farm.corral("report", "--since", "10m", "--out", str(file)).stdout
    empty = set(re.search(r"without data: (.*)", said)[1].split(", "))  # type: ignore[index]
    assert empty == {"Requests that failed", "llama-servers lost", "Firing alerts"} - {
        "Firing alerts" if firing(watched) - {"DeadMansSwitch"} else ""
    }
    page = file.read_text()
    assert "watched &lt;b&gt;&amp;$x$" in page
    assert "<b>" not in page
    for name in ("chat-1", "chat-2", "embed-1", UUID):
        assert f"<td>{name}</td>" in page
    images = re.findall(r'src="(.*?)"', page)
    assert len(images) == len(PLOTS) - len(empty)
    assert not re.search(r"(src|href|url|@import)[=( ]+[\"']?(?!data:)[\w/]", page), "a browser would fetch something"
    drawn = [base64.b64decode(image.removeprefix("data:image/svg+xml;base64,")).decode() for image in images]
    assert sum("chat, 95 of 100" in one for one in drawn) == 2
    assert any("watched &lt;b&gt;&amp;$x$" in one for one in drawn)
    assert all(f"<h2>{one.title}</h2>" in page for one in (*TABLES, *PLOTS))


def test_the_key_of_prometheus_reads_metrics_and_nothing_else(watched: Watched) -> None:
    file = watched.farm.state / "monitoring" / "gate-metrics-key"
    assert file.stat().st_mode & 0o777 == 0o600
    client = watched.farm.client(file.read_text())
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "?"}])
    with pytest.raises(openai.APIStatusError, match="not allowed to call this route"):
        client.models.list()


def test_a_wrong_receiver_is_refused_and_what_runs_goes_on(watched: Watched) -> None:
    done = watched.farm.corral("monitoring", check=False, ALERT_WEBHOOK_URL="hooks.example")
    assert done.returncode == 2
    assert "ALERT_WEBHOOK_URL is no URL; give one that begins with http:// or https://" in done.stderr
    assert watched.prometheus.query('up{job="alertmanager"} == 1')


def test_requests_that_fail_at_the_gate_page_somebody(watched: Watched, tmp_path: Path) -> None:
    """Told by a Prometheus of its own, whose rules' times are divided: the farm's own would take minutes.

    Clients ask for no retries: LiteLLM would wait as long as a server that stands still says, before it tries again.
    """
    config = yaml.safe_load((watched.farm.state / "monitoring" / "prometheus.yml").read_text())
    (gate,) = (job for job in config["scrape_configs"] if job["job_name"] == "litellm")
    gate["authorization"]["credentials_file"] = str(watched.farm.state / "monitoring" / "gate-metrics-key")
    client, ended = watched.farm.client(), threading.Event()
    answers: Counter[int] = Counter()

    def ask() -> None:
        while not ended.wait(0.2):
            try:
                client.embeddings.create(model="embed", input="one", extra_body={"num_retries": 0})
                answers[200] += 1
            except openai.APIStatusError as error:
                answers[error.status_code] += 1

    server = watched.farm.part("embed-1")["port"]
    key = parse_env((watched.farm.state / ".env").read_text())["GPU_SERVER_KEY"]
    headers = {"Authorization": f"Bearer {key}"}

    def order(what: str) -> None:
        httpx.post(f"http://127.0.0.1:{server}/{what}", headers=headers, trust_env=False).raise_for_status()

    with alerting(tmp_path, [gate], [], by=1200) as told:
        drills, asking = Drills(told.people), threading.Thread(target=ask)
        wait_until(lambda: told.api.query("litellm_proxy_total_requests_metric_total"), 20, "a look at the gate")
        asking.start()
        try:
            wait_until(lambda: answers[200] > 3, 20, "answers")
            order("drain")
            drills.begin("GateErrorShareHigh")
            drills.told("GateErrorShareHigh")
            order("resume")
            drills.end("GateErrorShareHigh")
            drills.over()
        finally:
            ended.set()
            asking.join()
            order("resume")
    print(f"clients saw {dict(answers)}")


def test_status_says_what_runs_and_stop_ends_it(watched: Watched) -> None:
    said = watched.farm.corral("monitoring", "status").stdout
    assert re.search(r"prometheus +ready", said)
    assert re.search(r"alertmanager +ready", said)
    watched.farm.corral("monitoring", "stop")
    assert watched.farm.corral("monitoring", "status", check=False).returncode == 3
    names = {part["name"] for part in watched.farm.status()["parts"]}
    assert names == {"postgres", "litellm", "chat-1", "chat-2", "embed-1"}
