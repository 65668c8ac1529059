"""Versions and programs: from what they print, and real programs for how they fail."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from corral.doctor.findings import Finding, Wanted, WantedGpu
from corral.doctor.tools import MissingError, ToolError, check_litellm, check_python, check_tools, run

FARM = Wanted(containers=True, gpus=(WantedGpu("GPU-1"),))
GOOD = {
    "llama-server --version": "version: 10434 (1a2b3c4)\nbuilt with cc\n",
    "docker version": "27.3.1\n",
    "docker compose": "v2.32.4\n",
    "nvidia-ctk --version": "NVIDIA Container Toolkit CLI version 1.17.3\ncommit: abc\n",
    "docker info": '{"io.containerd.runc.v2": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}}',
}


def tools(changed: dict[str, str | ToolError], farm: Wanted = FARM) -> list[Finding]:
    """Check programs that print what GOOD says, but for those that are changed."""

    def fake(argv: Sequence[str]) -> str:
        printed = {**GOOD, **changed}[" ".join(argv[:2])]
        if isinstance(printed, ToolError):
            raise printed
        return printed

    return check_tools(farm, fake)


def test_what_is_right_is_told_with_its_version() -> None:
    found = tools({})
    assert {finding.level for finding in found} == {"ok"}
    said = {finding.what for finding in found}
    assert said >= {
        "llama-server 10434 (1a2b3c4)", "Docker 27.3.1", "Compose v2.32.4", "NVIDIA Container Toolkit 1.17.3",
        "Docker knows the nvidia runtime",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "level", "said", "mend"),
    [
        ({"llama-server --version": MissingError("gone")}, "note", "no llama-server on PATH", ""),
        ({"llama-server --version": ToolError("signal 4")}, "error", "signal 4", "build it for this CPU"),
        ({"docker version": MissingError("gone")}, "error", "docker is not installed", "install Docker"),
        ({"docker version": ToolError("no daemon")}, "error", "no daemon", "systemctl start docker"),
        ({"docker compose": ToolError("no such command")}, "error", "no compose plugin", "docker-compose-plugin"),
        ({"docker compose": "2.29.9"}, "error", "Compose 2.29.9 does not know `gpus:`", "2.30"),
        ({"nvidia-ctk --version": MissingError("gone")}, "error", "gone", "install the NVIDIA Container Toolkit"),
        ({"docker info": '{"runc": {}}'}, "error", "does not know the nvidia runtime", "nvidia-ctk runtime configure"),
        ({"docker info": "not JSON"}, "error", "does not know the nvidia runtime", "nvidia-ctk runtime configure"),
    ],
)
def test_a_fault_is_told_with_its_mend(changed: dict[str, str | ToolError], level: str, said: str, mend: str) -> None:
    [finding] = [finding for finding in tools(changed) if finding.level != "ok"]
    assert finding.level == level
    assert said in finding.what
    assert mend in finding.mend


def test_a_farm_without_containers_needs_no_docker() -> None:
    found = tools({"docker version": MissingError("gone")}, Wanted())
    assert {finding.check for finding in found} == {"versions"}


def test_a_named_llama_server_must_be_there() -> None:
    gone = Path("/nowhere/llama-server")
    found = tools({f"{gone} --version": MissingError("gone")}, Wanted(llama_server=gone))
    assert ("error", f"{gone} is not there") in {(finding.level, finding.what) for finding in found}


@pytest.mark.parametrize(
    ("version", "level"), [((3, 10, 9), "error"), ((3, 11, 0), "ok"), ((3, 13, 9), "ok"), ((3, 14, 0), "error")]
)
def test_python_is_one_of_those_tested(version: tuple[int, ...], level: str) -> None:
    assert check_python(version).level == level


@pytest.mark.parametrize(("version", "level"), [("1.106.2", "ok"), ("1.107.0", "error"), ("1.107.3", "error")])
def test_a_compromised_litellm_is_an_error(version: str, level: str) -> None:
    assert check_litellm(version).level == level


def test_real_programs_are_run_and_their_ends_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run([sys.executable, "--version"]).startswith("Python 3")
    with pytest.raises(MissingError, match="is not installed"):
        run(["corral-no-such-program"])
    with pytest.raises(ToolError, match="exit code 3: broken"):
        run([sys.executable, "-c", "import sys; print('x\\nbroken', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(ToolError, match="signal 4"):  # as of a binary built for another CPU
        run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGILL)"])
    monkeypatch.setattr("corral.doctor.tools.TIMEOUT_S", 0.2)
    with pytest.raises(ToolError, match="does not answer"):
        run([sys.executable, "-c", "import signal; signal.pause()"])
