"""What a farm file's `langfuse:` gives: the gate's settings, and the containers where a host is named for them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from corral.farm import load_farm
from corral.render import render
from corral.yamlfile import YamlFileErrors
from support.random_farms import FARMS

TWO_HOSTS = (FARMS / "two-hosts.yaml").read_text()
HERE = "langfuse: {host: gate%s}\n"


def files(text: str, tmp_path: Path) -> dict[str, Any]:
    farm = tmp_path / "corral.yaml"
    farm.write_text(text)
    return {str(file.path): yaml.safe_load(file.text) for file in render(load_farm(farm).value)}


def services(tmp_path: Path, more: str = "") -> dict[str, Any]:
    rendered = files(TWO_HOSTS + HERE % more, tmp_path)
    found: dict[str, Any] = rendered["langfuse/compose.yaml"]["services"]
    return found


def test_one_that_runs_elsewhere_gets_traces_and_no_containers(tmp_path: Path) -> None:
    rendered = files(TWO_HOSTS + "langfuse: {url: 'https://traces.example', sample: 0.25}\n", tmp_path)
    assert "langfuse/compose.yaml" not in rendered
    gate = rendered["litellm/config.yaml"]
    assert gate["environment_variables"]["LANGFUSE_OTEL_HOST"] == "https://traces.example"
    assert gate["environment_variables"]["LANGFUSE_SAMPLE_RATE"] == "0.25"
    assert gate["environment_variables"]["CORRAL_TRACES"] == "figures"


def test_the_gate_finds_the_one_that_is_rendered(tmp_path: Path) -> None:
    rendered = files(TWO_HOSTS + HERE % ", port: 3100", tmp_path)
    url = "http://192.168.1.10:3100"
    assert rendered["litellm/config.yaml"]["environment_variables"]["LANGFUSE_OTEL_HOST"] == url
    web = rendered["langfuse/compose.yaml"]["services"]["web"]
    assert web["environment"]["NEXTAUTH_URL"] == url
    assert web["ports"] == [{"target": 3000, "published": "3100", "protocol": "tcp", "host_ip": "192.168.1.10"}]


def test_only_the_web_is_published_and_nobody_may_sign_up(tmp_path: Path) -> None:
    found = services(tmp_path)
    assert [name for name, service in found.items() if "ports" in service] == ["web"]
    assert not any("network_mode" in service for service in found.values())
    assert found["web"]["environment"]["AUTH_DISABLE_SIGNUP"] == "true"
    assert found["web"]["environment"]["TELEMETRY_ENABLED"] == "false"


def test_every_image_is_pinned_and_every_container_is_held_down(tmp_path: Path) -> None:
    for name, service in services(tmp_path).items():
        image, _, tag = service["image"].partition(":")
        assert image, name
        assert any(character.isdigit() for character in tag), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["mem_limit"], name
        assert name == "store" or service["user"].split(":")[0] not in ("", "0"), name


def test_secrets_come_from_the_environment_and_are_asked_for(tmp_path: Path) -> None:
    secret = ("PASSWORD", "SECRET", "SALT", "ENCRYPTION", "AUTH", "PUBLIC_KEY", "DATABASE_URL")
    for name, service in services(tmp_path).items():
        for variable, value in service.get("environment", {}).items():
            if any(word in variable for word in secret) and variable != "AUTH_DISABLE_SIGNUP":
                assert ":?" in value or variable == "NEXTAUTH_URL", f"{name}: {variable}"
    environment = services(tmp_path, ", secret_key_env: TRACES_SECRET")["web"]["environment"]
    assert environment["LANGFUSE_INIT_PROJECT_SECRET_KEY"].startswith("${TRACES_SECRET:?")


@pytest.mark.parametrize(
    ("said", "place", "what"),
    [
        ("langfuse: {}", "langfuse", "says neither where Langfuse is nor where to run it; add host: NAME"),
        ("langfuse: {host: gats}", "langfuse.host", "there is no host gats; did you mean gate?"),
        ("langfuse: {host: gate, port: 3000}", "langfuse.port", "port 3000 of gate is taken by grafana"),
        (
            "langfuse: {host: gate, listen: 127.0.0.1}",
            "langfuse.listen",
            "where the gate cannot reach it; give listen:",
        ),
        ("langfuse: {url: 'https://x.example', secret_key_env: GPU_SERVER_KEY}", "secret_key_env", "farm's own secret"),
        (
            "langfuse: {url: 'https://x.example', sample: 0}",
            "langfuse.sample",
            "write a number above 0 and of at most 1",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_mend(said: str, place: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(YamlFileErrors) as refused:
        files(f"{TWO_HOSTS}{said}\n", tmp_path)
    lines = "\n".join(refused.value.lines())
    assert place in lines
    assert what in lines


def test_processes_cannot_run_it(tmp_path: Path) -> None:
    laptop = (FARMS / "laptop.yaml").read_text()
    with pytest.raises(YamlFileErrors) as refused:
        files(laptop + "langfuse: {host: here}\n", tmp_path)
    assert "Langfuse is containers, and here runs processes; name a compose host, or give url:" in str(
        refused.value.lines()
    )
