"""setup-host.sh on a machine that is made up: an `/etc` of its own, and commands that write down their calls."""

import shutil
import subprocess
from pathlib import Path

import pytest

from support.commands import Commands

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[3] / "gpu-server" / "scripts" / "setup-host.sh"
NVIDIA = """
case "$*" in
*driver_version*) echo 535.216.03 ;;
*persistence_mode*) echo Enabled ;;
*min_limit*) echo "GPU-aa, 90.00, 180.00"; echo "GPU-bb, 90.00, 180.00" ;;
*default_limit*) echo "GPU-aa, 180.00"; echo "GPU-bb, 180.00" ;;
esac
"""
DOCKER = 'case "$*" in "ps --quiet") ;; "--version") echo "Docker version 28.0.1" ;; esac'
CTK = """
case "$*" in
--version) echo "NVIDIA Container Toolkit CLI version 1.17" ;;
*) echo "{nvidia-container-runtime}" >"$ROOT/etc/docker/daemon.json" ;;
esac
"""


class Machine:
    """A root folder and its commands."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.commands = Commands(folder / "bin")
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc" / "os-release").write_text('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12"\n')
        for name, script in {"nvidia-smi": NVIDIA, "docker": DOCKER, "nvidia-ctk": CTK, "id": "echo 0"}.items():
            self.commands.add(name, script)
        for name in ("systemctl", "apt-get", "apt-cache"):
            self.commands.add(name)

    def setup(self, *words: str, rc: int = 0) -> str:
        done = subprocess.run(
            [shutil.which("bash") or "bash", SCRIPT, *words], capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": self.commands.path, "ROOT": str(self.root)},
        )  # fmt: skip
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout + done.stderr

    def files(self) -> dict[str, str]:
        found = (file for file in self.root.rglob("*") if file.is_file())
        return {str(file.relative_to(self.root)): file.read_text() for file in found}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_is_made_ready_once_and_left_alone_after_that(machine: Machine) -> None:
    assert "ready" in machine.setup("--power-limit", "90")
    files = machine.files()
    assert "nvidia-container-runtime" in files["etc/docker/daemon.json"]
    assert files["etc/corral/power-limits"].splitlines()[-1] == "90"
    assert (machine.root / "srv/corral/models").is_dir()
    assert machine.commands.called("systemctl enable --now corral-watchdog.timer")
    machine.commands.forget()
    said = machine.setup("--power-limit", "90")
    assert "doing" not in said
    assert machine.files() == files
    assert not machine.commands.called("systemctl")


def test_a_dry_run_changes_nothing_and_needs_no_root(machine: Machine) -> None:
    machine.commands.add("id", "echo 1000")
    before = machine.files()
    said = machine.setup("--dry-run", "--power-limit", "90")
    assert "would     write" in said
    assert machine.files() == before
    assert not machine.commands.called("systemctl")
    assert "needs root" in machine.setup(rc=1)


def test_undo_takes_back_what_was_done(machine: Machine) -> None:
    (machine.root / "etc/docker").mkdir()
    (machine.root / "etc/docker/daemon.json").write_text('{"data-root": "/d"}\n')
    before = machine.files()
    machine.setup("--power-limit", "GPU-aa=120", "--power-limit", "GPU-bb=90")
    assert machine.files() != before
    said = machine.setup("--undo")
    assert machine.files() == before
    assert "stay" in said
    assert machine.commands.called("nvidia-smi -i GPU-aa -pl 180")


def test_a_file_that_somebody_else_wrote_is_not_replaced(machine: Machine) -> None:
    unit = machine.root / "etc/systemd/system/corral-watchdog.timer"
    unit.parent.mkdir(parents=True)
    unit.write_text("mine\n")
    assert "this script did not write it; move it away" in machine.setup(rc=1)
    assert unit.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("name", "script", "said"),
    [
        ("nvidia-smi", 'case "$*" in *driver_version*) echo 470.1 ;; *mode*) echo Enabled ;; esac', "older than 525"),
        ("docker", 'case "$*" in "compose version") exit 1 ;; esac', "no Compose v2"),
        ("docker", 'case "$*" in "ps --quiet") echo 1 ;; esac', "systemctl restart docker"),
    ],
)
def test_what_only_the_owner_can_do_is_said_and_the_rest_is_done(
    machine: Machine, name: str, script: str, said: str
) -> None:
    machine.commands.add(name, script)
    assert said in machine.setup(rc=3)
    assert (machine.root / "srv/corral/models").is_dir()


def test_a_package_that_apt_does_not_know_is_asked_for(machine: Machine) -> None:
    machine.commands.remove("nvidia-ctk")
    if shutil.which("nvidia-ctk", path=machine.commands.path):
        pytest.skip("this machine has NVIDIA's container toolkit")
    assert "add NVIDIA's apt repository" in machine.setup(rc=3)
    machine.commands.add("apt-cache", "echo '  Candidate: 1.17'")
    machine.setup()
    assert machine.commands.called("apt-get install -y --no-install-recommends nvidia-container-toolkit")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--power-limit", "60"), "60 W is outside what GPU-aa takes; give 90 to 180"),
        (("--power-limit", "GPU-cc=90"), "there is no card GPU-cc here"),
        (("--power-limit", "lots"), "is no limit; give watts"),
        (("--power-limit",), "--power-limit needs a value"),
        (("--models", "models"), "is no absolute path"),
        (("--models", "/a;reboot"), "is no absolute path"),
        (("--quick",), "--quick is no option; see --help"),
    ],
)
def test_wrong_arguments_are_refused_with_the_mend(machine: Machine, words: tuple[str, ...], said: str) -> None:
    assert said in machine.setup(*words, rc=2)
    assert not machine.commands.called("systemctl")


def test_another_system_is_not_touched(machine: Machine) -> None:
    (machine.root / "etc/os-release").write_text("ID=fedora\n")
    assert "docs/gpu-host-setup.md" in machine.setup(rc=3)
    assert list(machine.files()) == ["etc/os-release"]


def test_the_limits_are_set_line_by_line(machine: Machine, tmp_path: Path) -> None:
    limits = tmp_path / "limits"
    limits.write_text("# a comment\n90\nGPU-bb=120\n")
    subprocess.run(
        ["bash", SCRIPT.with_name("power-limit"), limits], check=True, timeout=20, env={"PATH": machine.commands.path}
    )
    assert machine.commands.called("nvidia-smi -pl 90")
    assert machine.commands.called("nvidia-smi -i GPU-bb -pl 120")
