"""Alert rules and Alertmanager's configuration, as Prometheus's own tools see them."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.tools import tool

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).parents[3]
PROMETHEUS = CHECKOUT / "monitoring" / "prometheus"
CONFIGURE = CHECKOUT / "monitoring" / "alertmanager" / "configure.sh"
RUNBOOKS = CHECKOUT / "docs" / "runbooks"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
ALWAYS_FIRING = "DeadMansSwitch"


def alerts() -> Iterator[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules" / "alerts.yml").read_text())["groups"]
    yield from (rule for group in groups for rule in group["rules"])


def ran(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


def test_promtool_accepts_the_rules() -> None:
    done = ran(tool("promtool"), "check", "rules", *sorted((PROMETHEUS / "rules").glob("*.yml")))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_and_resolve_as_their_tests_say(file: Path) -> None:
    done = ran(tool("promtool"), "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rule_groups_are_tested_in_an_order_that_names_each() -> None:
    """What the order leaves out promtool evaluates first: an alert would read what was recorded a step ago."""
    files = (PROMETHEUS / "rules" / name for name in ("recording.yml", "alerts.yml"))
    groups = [group["name"] for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    for file in TESTS:
        assert yaml.safe_load(file.read_text())["group_eval_order"] == groups, file


def test_each_alert_is_seen_quiet_firing_and_resolved() -> None:
    """In this order, once or more often: an alert that a test only sees quiet may be misspelt."""
    seen: dict[str, str] = {}
    for file in TESTS:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                name = check["alertname"]
                seen[name] = seen.get(name, "") + ("f" if check["exp_alerts"] else "q")
    names = {alert["alert"] for alert in alerts()}
    assert set(seen) == names
    assert seen.pop(ALWAYS_FIRING) == "ff"
    assert {name: course for name, course in seen.items() if not re.fullmatch("(q+f+)+q+", course)} == {}


def test_each_alert_says_how_bad_what_and_where_to_read_on() -> None:
    for alert in alerts():
        name, notes = alert["alert"], alert["annotations"]
        assert alert["labels"]["severity"] in ("page", "warning", "none"), name
        assert notes["summary"], name
        assert notes["description"], name
        assert notes["runbook_url"] == f"docs/runbooks/{name}.md", name
        page = (CHECKOUT / notes["runbook_url"]).read_text()
        assert page.startswith(f"# {name}\n"), name
        assert {"## Look", "## Mend", "## Drill"} <= set(page.splitlines()), name


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == {alert["alert"] for alert in alerts()}


RECEIVERS = {
    "nobody": {},
    "webhook": {"ALERT_WEBHOOK_URL": "https://hooks.example/a?b='c'&d=#e"},
    "mail": {"ALERT_MAIL_TO": "ops@x.example", "ALERT_MAIL_FROM": "farm@x.example", "ALERT_SMTP_HOST": "mail:587"},
    "all": {
        "ALERT_WEBHOOK_URL": "http://127.0.0.1:9/",
        "ALERT_HEARTBEAT_URL": "http://127.0.0.1:9/beat",
        "ALERT_MAIL_TO": "ops@x.example", "ALERT_MAIL_FROM": "farm@x.example", "ALERT_SMTP_HOST": "mail.example:587",
        "ALERT_SMTP_USER": "farm: 'x'", "ALERT_SMTP_PASSWORD": "p'a\"s: #{}$(id)`id`",
    },
}  # fmt: skip


@pytest.mark.parametrize("receivers", RECEIVERS.values(), ids=RECEIVERS.keys())
def test_alertmanager_accepts_what_the_environment_gives(receivers: dict[str, str], tmp_path: Path) -> None:
    done = ran("sh", CONFIGURE, tmp_path, **receivers)
    assert done.returncode == 0, done.stderr
    assert ("reach nobody" in done.stderr) == (not receivers)
    file = tmp_path / "alertmanager.yml"
    assert file.stat().st_mode & 0o777 == 0o600
    checked = ran(tool("amtool"), "check-config", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    people = {receiver["name"]: receiver for receiver in yaml.safe_load(file.read_text())["receivers"]}["people"]
    assert [hook["url"] for hook in people.get("webhook_configs", ())] == [
        url for name, url in receivers.items() if name == "ALERT_WEBHOOK_URL"
    ]
    (mail,) = people.get("email_configs", ()) or [{}]
    assert mail.get("auth_password") == receivers.get("ALERT_SMTP_PASSWORD")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ALERT_WEBHOOK_URL": "hooks.example"}, "ALERT_WEBHOOK_URL is no URL; give one that begins with http://"),
        ({"ALERT_HEARTBEAT_URL": "ftp://x"}, "ALERT_HEARTBEAT_URL is no URL"),
        ({"ALERT_SMTP_PASSWORD": "a\nb: c"}, "ALERT_SMTP_PASSWORD holds a line break"),
        ({"ALERT_MAIL_TO": "a@b"}, "ALERT_MAIL_TO without ALERT_MAIL_FROM"),
        ({"ALERT_MAIL_TO": "a@b", "ALERT_MAIL_FROM": "c@d", "ALERT_SMTP_HOST": "mail"}, "host:port, like"),
    ],
)
def test_a_wrong_receiver_is_named_and_nothing_is_written(wrong: dict[str, str], said: str, tmp_path: Path) -> None:
    done = ran("sh", CONFIGURE, tmp_path, **wrong)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "alertmanager.yml").exists()


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=DeadMansSwitch", "severity=none"], "heartbeat"),
        (["alertname=GpuServerDown", "severity=page"], "people"),
        (["alertname=GpuHot", "severity=warning"], "people"),
    ],
)
def test_alerts_reach_whom_they_should(labels: list[str], receiver: str, tmp_path: Path) -> None:
    assert ran("sh", CONFIGURE, tmp_path).returncode == 0
    done = ran(tool("amtool"), "config", "routes", "test", "--config.file", tmp_path / "alertmanager.yml", *labels)
    assert (done.returncode, done.stdout.strip()) == (0, receiver), done.stderr


def test_no_inhibition_names_an_alert_that_is_not_there(tmp_path: Path) -> None:
    assert ran("sh", CONFIGURE, tmp_path).returncode == 0
    names = {alert["alert"] for alert in alerts()}
    for rule in yaml.safe_load((tmp_path / "alertmanager.yml").read_text())["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            pattern = re.fullmatch(r'alertname =~? "?([^"]+)"?', matcher)
            assert pattern, matcher
            for one in pattern[1].split("|"):
                assert any(re.fullmatch(one, name) for name in names), one
