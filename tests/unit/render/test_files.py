"""`corral render` as a person runs it: what is written, what is left alone, what --check says."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from corral.errors import CorralError
from corral.render.cli import app
from support.random_farms import TWO_HOSTS

EDITS = [
    (
        "context: 16384", "context: 8192",
        {"hosts/gpu-box/gpu-server/compose.yaml", "load-tests/targets.json", "monitoring/prometheus/rules/farm.yml"},
    ),
    (
        "ports: 8090", "ports: 8091",
        {
            "hosts/gpu-box/gpu-server/compose.yaml", "litellm/config.yaml", "load-tests/targets.json",
            "monitoring/prometheus/targets/gpu-servers.yml",
        },
    ),
    (
        "rpm: 120", "rpm: 60",
        {"litellm/config.yaml", "load-tests/targets.json", "monitoring/prometheus/rules/farm.yml"},
    ),
    ("memory_mib: 6144", "memory_mib: 8192", {"hosts/gpu-box/gpu-server/compose.yaml"}),
    ("OPENAI_API_KEY", "OTHER_API_KEY", {"litellm/config.yaml", "litellm/compose.yaml"}),
    ("monitoring: {}", "monitoring: {scrape_interval_s: 5}", {"monitoring/prometheus/prometheus.yml"}),
    ("aliases: [embed]", "aliases: [vectors]", {"litellm/config.yaml", "load-tests/targets.json"}),
    ("name: RTX 3060", "name: RTX 3060 Ti", set()),
]  # fmt: skip


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    path = tmp_path / "corral.yaml"
    path.write_text(TWO_HOSTS.read_text())
    assert run(path).exit_code == 0
    return path


def run(farm: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--file", str(farm), "--out", str(farm.parent / "out"), *arguments])


def snapshot(farm: Path) -> dict[str, tuple[str, int]]:
    out = farm.parent / "out"
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): (path.read_text(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize(("before", "after", "expected"), EDITS, ids=[edit[1] for edit in EDITS])
def test_one_edited_line_changes_the_files_it_should_and_no_others(
    before: str, after: str, expected: set[str], farm: Path
) -> None:
    was = snapshot(farm)
    farm.write_text(farm.read_text().replace(before, after))
    result = run(farm)
    assert result.exit_code == 0, result.output
    now = snapshot(farm)
    assert {path for path in now if now[path] != was.get(path)} == expected
    assert result.output.count("changed   ") == len(expected)


def test_rendering_twice_touches_nothing(farm: Path) -> None:
    was = snapshot(farm)
    result = run(farm)
    assert snapshot(farm) == was
    assert {line.split()[0] for line in result.output.splitlines()} == {"unchanged"}


def test_check_shows_the_drift_writes_nothing_and_exits_1(farm: Path) -> None:
    assert run(farm, "--check").exit_code == 0
    was = snapshot(farm)
    farm.write_text(farm.read_text().replace("rpm: 120", "rpm: 60"))
    result = run(farm, "--check")
    assert result.exit_code == 1
    assert "--- a/litellm/config.yaml" in result.output
    assert "-    rpm: 120" in result.output
    assert "+    rpm: 60" in result.output
    assert "corral render" in result.output
    assert snapshot(farm) == was


def test_check_finds_an_edit_by_hand_and_a_file_that_is_missing(farm: Path) -> None:
    out = farm.parent / "out"
    config = out / "litellm" / "config.yaml"
    config.write_text(config.read_text().replace("least-busy", "simple-shuffle"))
    (out / "load-tests" / "targets.json").unlink()
    result = run(farm, "--check")
    assert result.exit_code == 1
    assert "-  routing_strategy: simple-shuffle" in result.output
    assert "+++ b/load-tests/targets.json" in result.output


def test_a_host_that_is_gone_leaves_a_stale_file_until_it_is_pruned(farm: Path) -> None:
    text = farm.read_text().replace("  gpu-box:\n", "  new-box:\n").replace("host: gpu-box", "host: new-box")
    farm.write_text(text)
    old = farm.parent / "out" / "hosts" / "gpu-box"
    own = old / "gpu-server" / ".env"
    own.write_text("A=b\n")
    result = run(farm)
    assert "stale" in result.output
    assert "--prune" in result.output
    assert (old / "gpu-server" / "compose.yaml").exists()
    assert run(farm, "--check").exit_code == 1
    assert "removed" in run(farm, "--prune").output
    assert not (old / "gpu-server" / "compose.yaml").exists()
    assert own.exists()  # no file of ours
    assert run(farm, "--check").exit_code == 0


def test_a_file_that_was_not_rendered_is_never_overwritten(farm: Path) -> None:
    config = farm.parent / "out" / "litellm" / "config.yaml"
    config.write_text("model_list: []\n")
    result = run(farm)
    assert isinstance(result.exception, CorralError)
    assert result.exception.exit_code == 2
    assert "was not rendered" in str(result.exception)
    assert config.read_text() == "model_list: []\n"


def test_kubernetes_is_rendered_when_asked_for_and_only_that(tmp_path: Path) -> None:
    farm = tmp_path / "corral.yaml"
    farm.write_text(TWO_HOSTS.read_text())
    run(farm, "--target", "kubernetes")
    assert {Path(path).parts[0] for path in snapshot(farm)} == {"kubernetes"}


def test_the_committed_example_is_what_its_farm_file_gives() -> None:
    rendered = TWO_HOSTS.parent / "rendered" / "two-hosts"
    targets = ("gpu-hosts", "litellm", "monitoring", "load-tests", "kubernetes")
    arguments = ["--file", str(TWO_HOSTS), "--out", str(rendered), "--check"]
    for target in targets:
        arguments += ["--target", target]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
