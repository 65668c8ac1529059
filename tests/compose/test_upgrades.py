"""docs/upgrades.md: LiteLLM tried on a copy of the database, PostgreSQL moved to another major version and back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from corral.render.proxy_host import POSTGRES_IMAGE
from support.compose_farm import ContainerFarm, Gate
from support.compose_images import NEXT_POSTGRES, image_named
from support.compose_table import Tell
from support.docker_host import CHECKOUT, DockerHost
from support.gate_folder import GateFolder
from support.guide import commands
from support.waiting import wait_until

UPGRADES = CHECKOUT / "docs" / "upgrades.md"
MIGRATIONS = "/opt/venv/lib/python3.11/site-packages/litellm_proxy_extras/migrations"
NEXT = """\
FROM {litellm}
COPY migration.sql {migrations}/20991231000000_next/migration.sql
"""
ONE_MORE = 'ALTER TABLE "LiteLLM_VerificationToken" ADD COLUMN "of_the_next_version" TEXT;\n'
NOT_WITH_KEYS = 'ALTER TABLE "LiteLLM_VerificationToken" ADD CONSTRAINT "no_keys" CHECK (token IS NULL);\n'
COLUMNS = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'of_the_next_version'"


@pytest.fixture
def next_litellm(host: DockerHost, tmp_path: Path) -> Callable[[str, str], str]:
    """Build a LiteLLM with one more migration; return its image's name."""

    def build(name: str, migration: str) -> str:
        context = tmp_path / name
        context.mkdir()
        (context / "migration.sql").write_text(migration)
        (context / "Dockerfile").write_text(NEXT.format(litellm=image_named("ghcr.io/berriai/"), migrations=MIGRATIONS))
        image = f"corral-test/litellm:{name}"
        host.docker("build", "--tag", image, context, DOCKER_BUILDKIT="1")
        return image

    return build


def in_postgres(farm: ContainerFarm, *command: str) -> str:
    return str(farm.gate_host.compose("exec", "-T", "postgres", *command).stdout).strip()


def test_a_rehearsal_finds_what_the_next_litellm_would_do_to_the_database(
    farm: ContainerFarm, tmp_path: Path, next_litellm: Callable[[str, str], str], tell: Tell
) -> None:
    folder = GateFolder(farm, tmp_path)
    folder.run("backup.sh", str(folder.path))
    (dump,) = (folder.path / "backups").iterdir()
    said = folder.run("rehearse.sh", str(dump), next_litellm("next", ONE_MORE), str(folder.path))
    assert "corral-test/litellm:next made 1 migrations and lists the keys" in said
    assert "to come back, put ghcr.io/berriai/litellm-database" in said
    assert "the database can stay" in said

    said = folder.run("rehearse.sh", str(dump), next_litellm("broken", NOT_WITH_KEYS), str(folder.path), rc=1)
    assert "20991231000000_next failed" in said
    assert "error: corral-test/litellm:broken cannot take over this database; stay with ghcr.io/berriai/" in said

    psql = ("psql", "--username", "litellm", "--no-align", "--tuples-only", "--command")
    assert in_postgres(farm, *psql, COLUMNS) == "0"
    assert "litellm_rehearsal" not in in_postgres(farm, *psql, "SELECT datname FROM pg_database")
    assert farm.gate.chat().status_code == 200
    tell("rehearsal of a LiteLLM with one more migration, and of one that the data do not allow", "found, on a copy")


def test_postgres_moves_to_another_major_version_and_back(farm: ContainerFarm, tmp_path: Path, tell: Tell) -> None:
    folder = GateFolder(farm, tmp_path)
    key = Gate().make_key()

    def refuses(was: str, now: str) -> None:
        farm.host.compose([folder.compose_file], "up", "--detach", "--no-deps", "postgres")
        text = f"the volume holds a database of PostgreSQL {was}, and this is PostgreSQL {now}; nothing was changed"
        wait_until(lambda: text in log(), 60, "the refusal")

    def log() -> str:
        done = farm.host.compose([folder.compose_file], "logs", "--no-log-prefix", "postgres")
        return str(done.stdout + done.stderr)

    try:
        folder.follow(commands(UPGRADES, "Forward: the old")[:2], {})
        folder.replace(POSTGRES_IMAGE, NEXT_POSTGRES)
        refuses("15", "18")
        folder.follow(["docker compose --project-directory litellm down"], {})
        folder.follow(commands(UPGRADES, "Forward: the old")[2:4], {})
        folder.follow(commands(UPGRADES, "Forward: with the new image"), {})
        assert Gate(key).chat().status_code == 200
        later = Gate().make_key()

        folder.replace(NEXT_POSTGRES, POSTGRES_IMAGE)
        refuses("18", "15")
        folder.follow(commands(UPGRADES, "Back"), {})
        assert Gate(key).chat().status_code == 200
        assert Gate(later).chat().status_code == 401  # made after the move
    finally:
        farm.host.compose([folder.compose_file], "down", "--timeout", "10", check=False)
        farm.host.docker("volume", "rm", "two-hosts-gate_postgres-before", check=False)
    tell(
        "PostgreSQL 15 to 18 and back, as docs/upgrades.md has it",
        "keys of before the move on both",
        "the gate is down",
    )
