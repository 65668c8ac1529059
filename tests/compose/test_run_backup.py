"""The gate's database: dumped, lost and restored, with its keys and its spend. After test_run, whose farm this is."""

import time
from pathlib import Path

import httpx

from support.alerting import listening, running
from support.compose_farm import ContainerFarm, Gate
from support.compose_table import Tell
from support.gate_folder import SCRIPTS, GateFolder
from support.ports import free_port
from support.tools import tool
from support.waiting import wait_until

NIGHTLY = "/app/corral/scripts/nightly.sh"
DUMPS = "/var/lib/postgresql/data"


def spend_of(gate: Gate, key: str) -> float:
    info = gate.get("/key/info", key=key).raise_for_status().json()
    return float(info["info"]["spend"])


def newest_dump(farm: ContainerFarm) -> str:
    """Have the nightly service make one, and return its path in the container."""
    said = farm.gate_host.compose("exec", "-T", "backup", "bash", NIGHTLY, "--now").stdout
    return str(said.split()[0])


def dumps(farm: ContainerFarm) -> list[str]:
    found: str = farm.gate_host.compose("exec", "-T", "backup", "ls", DUMPS).stdout
    return found.split()


def test_keys_and_spend_come_back_from_a_nightly_dump(farm: ContainerFarm, tmp_path: Path, tell: Tell) -> None:
    folder = GateFolder(farm, tmp_path)
    kept = Gate().make_key()
    Gate(kept).chat().raise_for_status()
    wait_until(lambda: spend_of(Gate(), kept) > 0, 90, "the spend to be written", 0.5)
    before = spend_of(Gate(), kept)
    made = newest_dump(farm)
    dump = tmp_path / "from-the-volume.dump"
    farm.gate_host.compose("cp", f"backup:{made}", str(dump))

    later = Gate().make_key()
    no_dump = folder.run("restore.sh", "--yes", str(folder.compose_file), str(folder.path), rc=2)
    assert "no dump of a gate's database" in no_dump
    assert "cannot ask here; say --yes" in folder.run("restore.sh", str(dump), str(folder.path), rc=2)
    assert Gate(later).chat().status_code == 200

    asking = (
        "exec",
        "-T",
        "--detach",
        "postgres",
        "psql",
        "--username",
        "litellm",
        "--command",
        "SELECT pg_sleep(300)",
    )
    farm.gate_host.compose(*asking)  # as a dump, or an exporter, that is connected while the databases change places
    folder.run("restore.sh", "--yes", str(dump), str(folder.path))
    farm.wait_until_healthy()
    assert Gate(kept).chat().status_code == 200
    assert Gate(later).chat().status_code == 401  # made after the dump
    assert spend_of(Gate(), kept) >= before
    assert len(list(tmp_path.glob("before-restore-*"))) == 1
    tell("a nightly dump, a key more, `restore.sh`", "keys and spend of the dump's time, the gate's own again", "none")


def test_backup_makes_one_beside_the_compose_file(farm: ContainerFarm, tmp_path: Path) -> None:
    folder = GateFolder(farm, tmp_path)
    said = folder.run("backup.sh", str(folder.path))
    (dump,) = (folder.path / "backups").iterdir()
    assert str(dump) in said
    assert dump.stat().st_mode & 0o777 == 0o600


def test_the_nightly_service_keeps_so_many_and_says_when_one_is_overdue(farm: ContainerFarm) -> None:
    farm.gate_host.wait_until_healthy("backup")
    assert any(name.endswith(".dump") for name in dumps(farm))  # made by itself, once LiteLLM had its tables

    def in_container(script: str, *, check: bool = True) -> tuple[int, str]:
        done = farm.gate_host.compose("exec", "-T", "backup", "bash", "-c", script, check=check)
        return done.returncode, done.stdout + done.stderr

    old = [f"litellm-2020010{day}T031500Z.dump" for day in (1, 2, 3)]
    in_container(f"cd {DUMPS} && touch notes.txt {' '.join(old)}")
    in_container(f"BACKUP_KEEP=2 bash {NIGHTLY} --now")
    left = [name for name in dumps(farm) if name.endswith(".dump")]
    assert len(left) == 2
    assert not set(left) & set(old)
    assert "notes.txt" in dumps(farm)

    in_container(f"cd {DUMPS} && touch --date '27 hours ago' *.dump")
    code, said = in_container(f"bash {NIGHTLY} --check", check=False)
    assert (code, "no dump of the last 26 hours; docker compose logs backup" in said) == (1, True)
    in_container(f"rm {DUMPS}/backup.prom")
    farm.gate_host.compose("restart", "backup")  # as a host that was off at night
    farm.gate_host.wait_until_healthy("backup")
    assert len([name for name in dumps(farm) if name.endswith(".dump")]) == 3
    assert in_container(f"stat -c %a {DUMPS}/backup.prom")[1].strip() == "644"  # node exporter is another user


def test_node_exporter_tells_when_the_newest_dump_was_made(farm: ContainerFarm, tmp_path: Path) -> None:
    exporter, port = tool("prometheus-node-exporter"), free_port()
    farm.gate_host.compose("cp", f"backup:{DUMPS}/backup.prom", str(tmp_path / "backup.prom"))
    options = ("--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={tmp_path}")
    with running(tmp_path / "exporter.log", exporter, *options, f"--web.listen-address=127.0.0.1:{port}"):
        wait_until(lambda: listening(port, "/"), 20, "node exporter")
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    (made,) = (
        line.split()[1] for line in text.splitlines() if line.startswith("corral_backup_last_dump_timestamp_seconds ")
    )
    assert 0 <= time.time() - float(made) < 3600


def test_a_disk_that_is_full_costs_no_earlier_dump(farm: ContainerFarm) -> None:
    network = farm.gate_host.inspect("backup")["HostConfig"]["NetworkMode"]
    given = farm.gate_host.inspect("backup")["Config"]
    environment = [word for each in given["Env"] for word in ("--env", each)]
    script = (
        "echo early >/full/litellm-20200101T031500Z.dump; head -c 1M /dev/zero >/full/other; "
        "bash /scripts/nightly.sh --now; echo code $?; ls /full"
    )
    done = farm.host.docker(
        *("run", "--rm", "--network", network, "--tmpfs", "/full:size=64k,uid=999,gid=999", *environment),
        *("--env", "BACKUP_FOLDER=/full", "--volume", f"{SCRIPTS}:/scripts:ro", "--entrypoint", "bash"),
        *(given["Image"], "-c", script),
    )
    assert "No space left on device" in done.stderr
    assert "the dump failed, see above; earlier ones are as they were" in done.stderr
    assert done.stdout.split() == ["code", "1", "litellm-20200101T031500Z.dump", "other"]
