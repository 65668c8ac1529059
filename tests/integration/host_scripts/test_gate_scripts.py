"""The scripts of the gate's host, given what they cannot use: a line that says what to give instead, exit code 2."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

SCRIPTS = Path(__file__).parents[3] / "litellm" / "scripts"
IMAGE = "ghcr.io/berriai/litellm-database:v1.106.2"


def run(folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPTS / words[0], *words[1:]], cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], **settings},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("backup.sh", "--keep", "0"), "--keep 0 is no number from 1 to 9999; give one like 14"),
        (("backup.sh", "--to"), "--to needs a value"),
        (("backup.sh",), ". holds no compose.yaml; give the folder of the gate's"),
        (("restore.sh",), "no dump is named"),
        (("restore.sh", "absent.dump"), "absent.dump cannot be read; name a dump of backup.sh"),
        (("rehearse.sh", "a.dump"), "a dump and an image are wanted"),
        (("rehearse.sh", "absent.dump", IMAGE), "absent.dump cannot be read; name a dump of backup.sh"),
        (("rehearse.sh", "there.dump", "v1.106.2; reboot"), "is no name of an image; give one like ghcr.io/"),
        (("rehearse.sh", "there.dump", IMAGE), ". holds no compose.yaml; give the folder of the gate's"),
    ],
)
def test_wrong_arguments_are_refused_with_the_mend(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "there.dump").touch()
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"BACKUP_AT": "3 o'clock"}, "BACKUP_AT 3 o'clock is no time of a day; give one like 03:15, in UTC"),
        ({"BACKUP_KEEP": "all"}, "BACKUP_KEEP all is no number from 1 to 9999"),
    ],
)
def test_wrong_settings_of_the_nightly_dump_are_refused(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    right = {"BACKUP_FOLDER": str(tmp_path), "BACKUP_AT": "03:15", "BACKUP_KEEP": "3"}
    done = run(tmp_path, "nightly.sh", "--check", **{**right, **settings})
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("script", ["backup.sh", "restore.sh", "rehearse.sh"])
def test_help_says_what_the_exit_codes_mean(tmp_path: Path, script: str) -> None:
    done = run(tmp_path, script, "--help")
    assert done.returncode == 0
    assert "Exit codes: 0" in done.stdout
