"""The monitoring beside the one-machine farm: its catalogue, and the programs it finds."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from corral.apply.difference import difference
from corral.errors import CorralError
from corral.farm import load_farm
from corral.farmstate import FarmState, PartState
from corral.keys.client import GateAccess
from corral.monitoring import beside, cli, files, gate_key, programs
from corral.monitoring.catalogue import page
from corral.monitoring.programs import PROGRAMS, Program
from corral.paths import CHECKOUT, StateDir
from corral.progress import Lines
from support.farm import LAPTOP


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_committed_catalogue_is_what_the_rules_give() -> None:
    assert (CHECKOUT / "docs" / "monitoring-catalogue.md").read_text() == page(), "run make docs"


def test_programs_on_the_path_come_before_those_that_were_fetched(tmp_path: Path) -> None:
    mine = executable(tmp_path / "bin" / "prometheus")
    executable(tmp_path / "fetched" / "prometheus")
    assert programs.find(PROGRAMS, tmp_path / "fetched", {"PATH": str(mine.parent)})["prometheus"] == mine


def test_debians_alertmanager_counts_only_where_its_templates_are(tmp_path: Path) -> None:
    there = executable(tmp_path / "bin" / "prometheus-alertmanager")
    template = tmp_path / "default.tmpl"
    one = Program("alertmanager", ("prometheus-alertmanager", "alertmanager-of-upstream"), "p", needs=template)
    environment = {"PATH": str(there.parent)}
    assert programs.find([one], tmp_path / "none", environment) == {}
    assert programs.to_install([one], {}) == [one]
    upstream = executable(tmp_path / "bin" / "alertmanager-of-upstream")
    assert programs.find([one], tmp_path / "none", environment) == {"alertmanager": upstream}
    template.write_text("")
    assert programs.find([one], tmp_path / "none", environment) == {"alertmanager": there}


def test_without_apt_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorralError) as error:
        programs.fetch(list(PROGRAMS[:1]), tmp_path / "programs")
    assert "prometheus: not here, and neither is apt-get" in str(error.value)
    assert "on the PATH" in str(error.value)


def test_a_package_that_cannot_be_had_is_said_with_apts_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("apt-get", "dpkg-deb"):
        tool = executable(tmp_path / name)
        tool.write_text("#!/bin/sh\necho 'E: No candidate' >&2\nexit 100\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(CorralError, match="E: No candidate; run apt-get update as root, or install them"):
        programs.fetch(list(PROGRAMS[:1]), tmp_path / "programs")


def test_apply_leaves_the_monitoring_alone() -> None:
    """Its parts are none of the farm file's, and carry no revision."""
    parts = [PartState("prometheus", "service"), PartState("chat-9", "service", revision="1")]
    assert difference(FarmState("http://127.0.0.1:4000/v1", parts=parts), []).removed == ("chat-9",)


@contextmanager
def gate(metrics: int, generate: int = 200) -> Iterator[tuple[GateAccess, list[str]]]:
    """A gate that answers so; and the keys that it was asked for metrics with."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert wanted["allowed_routes"] == ["/metrics", "/metrics/", "/corral/metrics"]
            self.answer(generate, b'{"key": "sk-fresh"}')

        def do_GET(self) -> None:
            key = self.headers["Authorization"].removeprefix("Bearer ")
            asked.append(key)
            self.answer(401 if key == "sk-revoked" else metrics, b"")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield GateAccess(f"http://127.0.0.1:{server.server_port}", "sk-master"), asked
        server.shutdown()
        thread.join()


def test_a_key_that_works_is_kept_and_one_that_does_not_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with gate(200) as (access, asked):
        file.write_text("sk-revoked")
        gate_key.keep(file, access)
        assert file.read_text() == "sk-fresh"
        assert file.stat().st_mode & 0o777 == 0o600
        gate_key.keep(file, access)
        assert asked == ["sk-revoked", *["sk-fresh"] * 4]  # two pages, twice


def test_a_gate_without_metrics_is_said_with_the_line_that_the_farm_file_lacks(tmp_path: Path) -> None:
    with gate(404) as (access, _), pytest.raises(CorralError, match=r"answers 404 .*add it, then make apply"):
        gate_key.keep(tmp_path / "key", access)
    assert not (tmp_path / "key").exists()


def test_a_gate_that_makes_no_key_is_said_with_its_own_words(tmp_path: Path) -> None:
    with gate(200, generate=403) as (access, _), pytest.raises(CorralError, match=r"refused to make a key .*403"):
        gate_key.keep(tmp_path / "key", access)


def test_a_gate_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorralError, match="gave no key for its metrics: ConnectError; see its log"):
        gate_key.keep(tmp_path / "key", GateAccess("http://127.0.0.1:9", "sk-master"))


def kept(state: Path) -> str:
    """What is said where the monitoring is to be as the farm is."""
    said = StringIO()
    beside.keep(StateDir(state), {}, Lines(Console(file=said)))
    return said.getvalue()


def test_what_was_never_switched_on_is_not_started_with_the_farm(tmp_path: Path) -> None:
    assert kept(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_farm_that_cannot_be_watched_is_none_that_failed(tmp_path: Path) -> None:
    (tmp_path / "monitoring").mkdir()
    (tmp_path / "monitoring" / "on").touch()
    said = kept(tmp_path)
    assert "the farm runs, and is not watched as it should be: the farm is not running" in said
    assert "then make monitoring" in said


def test_who_is_told_of_alerts_stays_when_the_farm_changes(tmp_path: Path) -> None:
    farm = load_farm(LAPTOP).value
    layout = files.Layout(tmp_path, {"prometheus": 1, "alertmanager": 2, "litellm": 3})
    files.write(layout, farm, [], {"PATH": "/usr/bin:/bin", "ALERT_WEBHOOK_URL": "http://127.0.0.1:9/hook"})
    assert files.write(layout, farm, [], None) == []
    assert "http://127.0.0.1:9/hook" in (tmp_path / "alertmanager.yml").read_text()


def test_started_again_without_receivers_it_tells_whom_it_told_and_an_empty_one_ends_that(tmp_path: Path) -> None:
    farm = load_farm(LAPTOP).value
    layout = files.Layout(tmp_path, {"prometheus": 1, "alertmanager": 2, "litellm": 3})
    shell = {"PATH": "/usr/bin:/bin"}
    (nobody,) = files.write(layout, farm, [], shell)
    assert files.write(layout, farm, [], shell) == [nobody]  # said as long as it is so
    files.write(layout, farm, [], {**shell, "ALERT_WEBHOOK_URL": "http://127.0.0.1:9/hook"})
    assert files.write(layout, farm, [], shell) == []
    assert "http://127.0.0.1:9/hook" in (tmp_path / "alertmanager.yml").read_text()
    assert files.write(layout, farm, [], {**shell, "ALERT_WEBHOOK_URL": ""}) == [nobody]
    assert "http://127.0.0.1:9/hook" not in (tmp_path / "alertmanager.yml").read_text()


def test_without_a_farm_there_is_nothing_to_watch(tmp_path: Path) -> None:
    for command in ([], ["stop"]):
        result = CliRunner().invoke(cli.app, [*command, "--state", str(tmp_path)])
        assert isinstance(result.exception, CorralError), command
        assert "start it: make up" in str(result.exception)
    assert CliRunner().invoke(cli.app, ["status", "--state", str(tmp_path)]).exit_code == cli.NOT_RUNNING
