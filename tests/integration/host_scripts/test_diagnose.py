"""diagnose.sh: what is in its archive, and that no secret is."""

import subprocess
import tarfile
from pathlib import Path

import pytest

from support.commands import Commands

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[3] / "gpu-server" / "scripts" / "diagnose.sh"
SECRET, QUOTED = "s3cret/with+[odd]*chars", "another one with blanks"


def diagnose(commands: Commands, *words: str, rc: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", SCRIPT, *words], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": commands.path},
    )  # fmt: skip
    assert done.returncode == rc, done.stdout + done.stderr
    return done


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "gpu-server"
    folder.mkdir()
    (folder / "compose.yaml").write_text(f"name: x\n# {SECRET}\n")
    (folder / ".env").write_text(f'GPU_SERVER_KEY={SECRET}\nexport OTHER="{QUOTED}"\nUI=admin\nWORD=struck\n')
    return folder


def test_the_archive_tells_of_machine_and_containers_and_holds_no_secret(tmp_path: Path, project: Path) -> None:
    commands = Commands(tmp_path / "bin")
    commands.add(
        "docker",
        f"""case "$*" in
        *"ps --all --quiet") echo id1 ;;
        inspect*Name*) echo /farm-qwen-1 ;;
        logs*) echo "key {SECRET}{SECRET} and {QUOTED}, sk-abcdefghijkl, Authorization: Bearer abcdefgh.ijkl"
               echo "postgresql://litellm:hunter22@postgres:5432/x struck" ;;
        exec*) echo '/status {{"state": "ready"}}' ;;
        esac""",
    )
    done = diagnose(commands, "--out", str(tmp_path), str(project))
    archive = Path(done.stdout.strip())
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        texts = {member.name: tar.extractfile(member).read().decode() for member in tar if member.isfile()}  # type: ignore[union-attr]
    assert not [name for name, text in texts.items() if SECRET in text or QUOTED in text or "sk-abc" in text]
    (log,) = (text for name, text in texts.items() if name.endswith("farm-qwen-1/log.txt"))
    assert "key [struck out][struck out] and [struck out], [struck out], Authorization: Bearer [struck out]" in log
    assert "postgresql://[struck out]@postgres:5432/x [struck out]" in log
    assert any("farm-qwen-1/status.txt" in name and "ready" in text for name, text in texts.items())
    assert any(name.endswith("machine/memory.txt") for name in texts)
    assert not commands.called("docker restart")


def test_what_cannot_be_diagnosed_is_said(tmp_path: Path, project: Path) -> None:
    commands = Commands(tmp_path / "bin")
    assert "holds no compose.yaml; give the folder" in diagnose(commands, str(tmp_path), rc=2).stderr
    assert "--lines many is no number" in diagnose(commands, "--lines", "many", str(project), rc=2).stderr
    assert "there is no folder" in diagnose(commands, "--out", str(tmp_path / "no"), str(project), rc=2).stderr
