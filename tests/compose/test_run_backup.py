"""The gate's database: dumped, lost and restored, with its keys and its spend. After test_run, whose farm this is."""

import os
import subprocess
from pathlib import Path

from support.compose_farm import ContainerFarm, Gate
from support.compose_table import Tell
from support.docker_host import CHECKOUT
from support.waiting import wait_until

SCRIPTS = CHECKOUT / "litellm" / "scripts"


def run(farm: ContainerFarm, folder: Path, script: str, *words: str, rc: int = 0) -> str:
    environment = {**os.environ, **farm.host.commands(folder / "bin"), **farm.gate_host.environment}
    done = subprocess.run(
        [SCRIPTS / script, *words], env=environment, capture_output=True, text=True, timeout=240, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == rc, done.stdout + done.stderr
    return done.stdout + done.stderr


def spend_of(gate: Gate, key: str) -> float:
    info = gate.get("/key/info", key=key).raise_for_status().json()
    return float(info["info"]["spend"])


def test_keys_and_spend_come_back_from_a_dump(farm: ContainerFarm, tmp_path: Path, tell: Tell) -> None:
    (tmp_path / "compose.yaml").write_text(farm.gate_host.compose("config").stdout)
    kept = Gate().make_key()
    Gate(kept).chat().raise_for_status()
    wait_until(lambda: spend_of(Gate(), kept) > 0, 90, "the spend to be written", 0.5)
    before = spend_of(Gate(), kept)
    said = run(farm, tmp_path, "backup.sh", str(tmp_path))
    (dump,) = (tmp_path / "backups").iterdir()
    assert str(dump) in said
    assert dump.stat().st_mode & 0o777 == 0o600

    later = Gate().make_key()
    assert "no dump of a gate's database" in run(
        farm, tmp_path, "restore.sh", "--yes", str(tmp_path / "compose.yaml"), str(tmp_path), rc=2
    )
    assert "cannot ask here; say --yes" in run(farm, tmp_path, "restore.sh", str(dump), str(tmp_path), rc=2)
    assert Gate(later).chat().status_code == 200

    run(farm, tmp_path, "restore.sh", "--yes", str(dump), str(tmp_path))
    farm.wait_until_healthy()
    assert Gate(kept).chat().status_code == 200
    assert Gate(later).chat().status_code == 401  # made after the dump
    assert spend_of(Gate(), kept) >= before
    assert len(list((tmp_path / "backups").glob("before-restore-*"))) == 1
    tell("`backup.sh`, a key more, `restore.sh`", "keys and spend of the dump's time, the gate's own again", "none")
