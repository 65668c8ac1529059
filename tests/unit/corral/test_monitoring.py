"""The monitoring beside the one-machine farm: its catalogue, and the programs it finds."""

from pathlib import Path

import pytest

from corral.apply.difference import difference
from corral.errors import CorralError
from corral.farmstate import FarmState, PartState
from corral.monitoring import programs
from corral.monitoring.catalogue import page
from corral.monitoring.programs import PROGRAMS, Program
from corral.paths import CHECKOUT


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
    assert programs.find(tmp_path / "fetched", {"PATH": str(mine.parent)})["prometheus"] == mine


def test_debians_alertmanager_counts_only_where_its_templates_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = executable(tmp_path / "bin" / "prometheus-alertmanager")
    template = tmp_path / "default.tmpl"
    one = Program("alertmanager", ("prometheus-alertmanager", "alertmanager-of-upstream"), "p", needs=template)
    monkeypatch.setattr(programs, "PROGRAMS", (one,))
    environment = {"PATH": str(there.parent)}
    assert programs.find(tmp_path / "none", environment) == {}
    assert programs.to_install({}) == [one]
    upstream = executable(tmp_path / "bin" / "alertmanager-of-upstream")
    assert programs.find(tmp_path / "none", environment) == {"alertmanager": upstream}
    template.write_text("")
    assert programs.find(tmp_path / "none", environment) == {"alertmanager": there}


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
