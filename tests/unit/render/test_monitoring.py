"""What is rendered for the monitoring's host and for the exporters of the others."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from corral.farm import load_farm
from corral.render import render
from support.random_farms import FARMS


def files(text: str, tmp_path: Path) -> dict[str, Any]:
    farm = tmp_path / "corral.yaml"
    farm.write_text(text)
    return {str(file.path): yaml.safe_load(file.text) for file in render(load_farm(farm).value)}


TWO_HOSTS = (FARMS / "two-hosts.yaml").read_text()


def jobs(rendered: dict[str, Any]) -> dict[str, Any]:
    scrapes = rendered["monitoring/prometheus/prometheus.yml"]["scrape_configs"]
    return {job["job_name"]: job for job in scrapes}


def addresses(job: dict[str, Any]) -> list[str]:
    return [target for group in job["static_configs"] for target in group["targets"]]


def test_ports_are_on_the_address_that_the_farm_file_names(tmp_path: Path) -> None:
    text = TWO_HOSTS.replace("monitoring: {}", "monitoring: {listen: 192.168.1.10, prometheus_port: 9999}")
    rendered = files(text, tmp_path)
    services = rendered["monitoring/compose.yaml"]["services"]
    assert "--web.listen-address=192.168.1.10:9999" in services["prometheus"]["command"]
    assert "--web.listen-address=192.168.1.10:9093" in services["alertmanager"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "192.168.1.10"
    assert services["grafana"]["environment"]["PROMETHEUS_URL"] == "http://192.168.1.10:9999"
    assert addresses(jobs(rendered)["prometheus"]) == ["192.168.1.10:9999"]


def test_no_container_may_write_or_rise(tmp_path: Path) -> None:
    rendered = files(TWO_HOSTS, tmp_path)
    composed = [
        file for path, file in rendered.items() if path.endswith(("monitoring/compose.yaml", "exporters/compose.yaml"))
    ]
    assert len(composed) == 3
    for service in (service for file in composed for service in file["services"].values()):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["user"].split(":")[0] not in ("", "0", "root")
        assert "latest" not in service["image"]
        assert ":" in service["image"]
        assert all(mount["read_only"] for mount in service.get("volumes", ()) if mount["type"] == "bind")


def test_secrets_are_named_and_not_written(tmp_path: Path) -> None:
    services = files(TWO_HOSTS, tmp_path)["monitoring/compose.yaml"]["services"]
    assert services["prometheus"]["environment"]["GATE_METRICS_KEY"].startswith("${GATE_METRICS_KEY:?")
    assert services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_ADMIN_PASSWORD:?")
    assert services["alertmanager"]["environment"]["ALERT_WEBHOOK_URL"] == "${ALERT_WEBHOOK_URL:-}"


def test_a_container_keeps_its_secret_in_memory_and_hands_its_arguments_on(tmp_path: Path) -> None:
    """What the entrypoints do, with the program replaced by one that says its arguments."""
    services = files(TWO_HOSTS, tmp_path)["monitoring/compose.yaml"]["services"]
    assert services["prometheus"]["tmpfs"] == ["/run/corral:size=1m,mode=0700,uid=65534,gid=65534"]
    for name in ("prometheus", "alertmanager"):
        command = [*services[name]["entrypoint"], *services[name]["command"]]
        script = (
            command[2].replace("$$", "$").replace("/run/corral", str(tmp_path)).replace(f"/bin/{name}", "/bin/echo")
        )
        command[2] = script.replace("/etc/corral/alertmanager", str(FARMS.parent / "monitoring" / "alertmanager"))
        done = subprocess.run(
            command, env={"PATH": "/usr/bin:/bin", "GATE_METRICS_KEY": "sk-'a b$c"}, capture_output=True, text=True,
            timeout=10, check=True,
        )  # fmt: skip
        assert done.stdout.split() == services[name]["command"]
    key = tmp_path / "gate-metrics-key"
    assert (key.read_text(), key.stat().st_mode & 0o777) == ("sk-'a b$c", 0o600)
    assert yaml.safe_load((tmp_path / "alertmanager.yml").read_text())["route"]["receiver"] == "people"


def test_the_database_is_reached_where_the_gate_reaches_it(tmp_path: Path) -> None:
    exporters = files(TWO_HOSTS, tmp_path)["hosts/gate/exporters/compose.yaml"]
    assert exporters["networks"] == {"gate": {"name": "two-hosts-gate_default", "external": True}}
    assert exporters["services"]["postgres-exporter"]["environment"]["DATA_SOURCE_URI"].startswith("postgres:5432/")
    alone = """
hosts: {box: {gpus: [{memory_mib: 8192}]}}
models: {m: {source: {hub: o/r, file: m.gguf}}}
servers: [{model: m, host: box, gpus: [0], ports: 8080}]
monitoring: {}
"""
    rendered = files(alone, tmp_path)
    service = rendered["hosts/box/exporters/compose.yaml"]["services"]["postgres-exporter"]
    assert service["network_mode"] == "host"
    assert service["environment"]["DATA_SOURCE_URI"].startswith("127.0.0.1:15432/")
    assert service["command"][0] == "--web.listen-address=127.0.0.1:9187"
    (queries,) = service["volumes"]
    assert "corral_key" in rendered["hosts/box/exporters/queries.yml"]
    assert f"--extend.query-path={queries['target']}" in service["command"]
    assert addresses(jobs(rendered)["postgres"]) == ["127.0.0.1:9187"]
    assert addresses(jobs(rendered)["litellm"]) == ["127.0.0.1:4000"]


def test_monitoring_on_a_third_host_asks_the_others_at_their_addresses(tmp_path: Path) -> None:
    text = TWO_HOSTS.replace("hosts:\n", "hosts:\n  watch: {address: fd00::3}\n", 1)
    text = text.replace("monitoring: {}", "monitoring: {host: watch, listen: 0.0.0.0}")
    rendered = files(text, tmp_path)
    found = jobs(rendered)
    assert addresses(found["litellm"]) == ["192.168.1.10:4000"]
    assert addresses(found["postgres"]) == ["192.168.1.10:9187"]
    assert set(addresses(found["node"])) == {"192.168.1.20:9100", "192.168.1.10:9100", "[fd00::3]:9100"}
    assert addresses(found["prometheus"]) == ["127.0.0.1:9090"]
    assert "hosts/watch/exporters/compose.yaml" in rendered


def test_a_limited_card_and_a_server_that_is_to_have_one_are_promised(tmp_path: Path) -> None:
    groups = files(TWO_HOSTS, tmp_path)["monitoring/prometheus/rules/farm.yml"]["groups"]
    rules = {(rule["record"], rule["labels"].get("server")): rule["expr"] for rule in groups[0]["rules"]}
    assert rules["corral_server_gpu", "qwen-2"] == "vector(1)"
    assert rules["corral_server_power_limit_watts", "qwen-2"] == "vector(130)"


def test_the_gate_measures_itself_only_where_somebody_looks(tmp_path: Path) -> None:
    watched = files(TWO_HOSTS, tmp_path)["litellm/config.yaml"]["litellm_settings"]
    assert "prometheus" in watched["callbacks"]
    assert watched["prometheus_metrics_max_series_per_metric"] > 0
    alone = files(TWO_HOSTS.replace("monitoring: {}\n", ""), tmp_path)["litellm/config.yaml"]["litellm_settings"]
    assert "prometheus" not in alone["callbacks"]
    assert not any(name.startswith("prometheus") for name in alone)


def test_addresses_to_probe_are_asked_by_an_exporter_that_only_its_host_reaches(tmp_path: Path) -> None:
    text = TWO_HOSTS.replace("monitoring: {}", "monitoring: {probes: [https://gate.example/health/liveliness]}")
    rendered = files(text, tmp_path)
    service = rendered["monitoring/compose.yaml"]["services"]["blackbox-exporter"]
    assert "--web.listen-address=127.0.0.1:9115" in service["command"]
    assert service["cap_drop"] == ["ALL"]
    job = jobs(rendered)["probe"]
    assert addresses(job) == ["https://gate.example/health/liveliness"]
    assert job["relabel_configs"][-1] == {"target_label": "__address__", "replacement": "127.0.0.1:9115"}
    modules = yaml.safe_load((FARMS.parent / "monitoring" / "blackbox" / "blackbox.yml").read_text())["modules"]
    assert job["params"]["module"][0] in modules


def test_without_addresses_nothing_probes(tmp_path: Path) -> None:
    rendered = files(TWO_HOSTS, tmp_path)
    assert "probe" not in jobs(rendered)
    assert "blackbox-exporter" not in rendered["monitoring/compose.yaml"]["services"]


def test_the_routings_metrics_come_from_their_own_page_and_from_nowhere_else(tmp_path: Path) -> None:
    """LiteLLM's page has them too where it runs several workers: they would count twice."""
    found = jobs(files(TWO_HOSTS, tmp_path))
    assert found["routing"]["metrics_path"] == "/corral/metrics"
    assert found["routing"]["authorization"] == found["litellm"]["authorization"]
    assert addresses(found["routing"]) == addresses(found["litellm"])
    actions = [(job, rule["action"]) for job in ("litellm", "routing") for rule in found[job]["metric_relabel_configs"]
               if rule.get("regex") == "corral_routing_.+"]  # fmt: skip
    assert actions == [("litellm", "drop"), ("routing", "keep")]


def test_the_nightly_dump_is_promised_and_read_beside_the_gate_alone(tmp_path: Path) -> None:
    rendered = files(TWO_HOSTS, tmp_path)
    groups = rendered["monitoring/prometheus/rules/farm.yml"]["groups"]
    promised = [rule["labels"] for rule in groups[0]["rules"] if rule["record"] == "corral_host_nightly_dump"]
    assert promised == [{"host": "gate"}]
    gate = rendered["hosts/gate/exporters/compose.yaml"]
    assert gate["volumes"] == {"dumps": {"name": "two-hosts-gate_dumps", "external": True}}
    assert "dumps" in rendered["litellm/compose.yaml"]["volumes"]
    (dumps,) = (mount for mount in gate["services"]["node-exporter"]["volumes"] if mount["type"] == "volume")
    assert dumps["read_only"] is True
    assert f"--collector.textfile.directory={dumps['target']}" in gate["services"]["node-exporter"]["command"]
    box = rendered["hosts/gpu-box/exporters/compose.yaml"]
    assert not any("textfile" in word for word in box["services"]["node-exporter"]["command"])
