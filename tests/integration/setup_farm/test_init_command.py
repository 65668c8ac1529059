"""`corral init`, `validate` and `doctor --file` as processes of their own: what they write, say and leave alone."""

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from corral.farm import load_farm, servers_of
from support.farm_files import serving
from support.ports import free_port

ROOT = Path(__file__).parents[3]


def corral(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("CORRAL_STATE", "LLAMA_SERVER")}
    return subprocess.run(
        [sys.executable, "-m", "corral", *arguments], cwd=folder, capture_output=True, text=True, timeout=60,
        check=False, stdin=subprocess.DEVNULL, env={**kept, **environment},
    )  # fmt: skip


def answered(folder: Path, answers: str) -> tuple[int, str]:
    """Run `corral init` on a terminal, type these lines, and return its exit code and output."""
    master, slave = pty.openpty()
    try:
        os.write(master, answers.encode())
        done = subprocess.run(
            [sys.executable, "-m", "corral", "init"], cwd=folder, stdin=slave, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(slave)
        os.close(master)
    return done.returncode, done.stdout


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_fresh_folder_gets_a_farm_that_loads_and_secrets_for_its_owner_alone(tmp_path: Path) -> None:
    done = corral(tmp_path, "init", "--yes", "--models", "chat")
    assert done.returncode == 0, done.stderr
    farm = load_farm(tmp_path / "corral.yaml").value
    assert [server.model_name for server in servers_of(farm)][-1] == "embed"
    assert (mode(tmp_path / ".corral" / ".env"), mode(tmp_path / ".corral")) == (0o600, 0o700)
    env = (tmp_path / ".corral" / ".env").read_text()
    assert "LITELLM_MASTER_KEY=sk-" in env
    key = env.split("LITELLM_MASTER_KEY=")[1].splitlines()[0]
    assert key not in (tmp_path / "corral.yaml").read_text() + done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".corral", "corral.yaml"]
    checked = corral(tmp_path, "validate")
    assert (checked.returncode, checked.stdout) == (0, "corral.yaml: ok, farm corral: 1 host, 2 models, 3 servers\n")


def test_two_folders_have_different_secrets(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert corral(tmp_path / name, "init", "--yes", "--models", "chat").returncode == 0
    one, other = ((tmp_path / name / ".corral" / ".env").read_text() for name in ("a", "b"))
    assert set(one.splitlines()) & set(other.splitlines()) == {one.splitlines()[0], "UI_USERNAME=admin"}


def test_what_is_there_is_named_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "corral.yaml"
    file.write_text(serving({"own": {"source": {"path": "own.gguf"}}}))
    before = file.read_bytes()
    refused = corral(tmp_path, "init", "--yes")
    assert refused.returncode == 2
    assert "corral.yaml is there: farm corral: 1 host, 1 model, 1 server; edit it; or --force" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert file.read_bytes() == before
    assert not (tmp_path / ".corral").exists()


def test_force_keeps_each_old_file_and_the_secrets(tmp_path: Path) -> None:
    file = tmp_path / "corral.yaml"
    file.write_text("nonsense: [")
    for backup in ("corral.yaml.bak", "corral.yaml.bak.1"):
        before = file.read_bytes()
        done = corral(tmp_path, "init", "--yes", "--force", "--models", "chat", "--name", "mine")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / backup).read_bytes() == before
        assert load_farm(file).value.name == "mine"
    env = (tmp_path / ".corral" / ".env").read_bytes()
    assert "secrets, kept as they were" in corral(tmp_path, "init", "--yes", "--force", "--models", "chat").stdout
    assert (tmp_path / ".corral" / ".env").read_bytes() == env


def test_secrets_of_a_database_that_is_there_are_never_made_anew(tmp_path: Path) -> None:
    data = tmp_path / ".corral" / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("18\n")
    refused = corral(tmp_path, "init", "--yes", "--models", "chat")
    assert refused.returncode == 1
    assert "is gone, but the database that it belongs to is there; restore the file" in refused.stderr
    assert not (tmp_path / ".corral" / ".env").exists()
    assert not (tmp_path / "corral.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nobody is there to answer questions; add --yes"),
        (("--yes", "--name", "My Farm"), "'My Farm' cannot be a name; use small letters"),
        (("--yes", "--models", "gpt"), "no preset is called 'gpt'; there are chat, qwen2.5-1.5b"),
        (("--yes", "--port", "http"), "'http' is no port; give a number from 1 to 65535"),
        (("--yes", "--port", "0"), "'0' is no port"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    refused = corral(tmp_path, "init", *arguments)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert said in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_questions_have_defaults_and_a_wrong_answer_is_asked_again(tmp_path: Path) -> None:
    code, said = answered(tmp_path, "My Farm\ncellar\nnone-such\n1\n\n")
    assert code == 0, said
    assert "'My Farm' cannot be a name; use small letters" in said
    assert "no preset is called 'none-such'" in said
    assert "llama-3.1-8b" in said
    farm = load_farm(tmp_path / "corral.yaml").value
    assert (farm.name, list(farm.models)) == ("cellar", ["chat", "embed"])


def test_validate_tells_all_that_is_wrong_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("hosts: {here: {runtim: processes}}\nmodels: {}\nservers: []\n")
    done = corral(tmp_path, "validate", "--file", "bad.yaml")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.split(":")[2] for line in lines] == ["1", "2", "3"]
    assert "did you mean `runtime`?" in lines[0]
    assert corral(tmp_path, "validate", "gone.yaml").returncode == 2


def test_the_doctor_looks_at_what_the_farm_file_names(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "corral.yaml").write_text(serving({"own": {"source": {"path": "own.gguf"}}}, port))
    done = corral(tmp_path, "doctor", "--json")
    found = json.loads(done.stdout)["findings"]
    assert done.returncode == 1  # nothing runs
    assert any(finding["what"].startswith(f"own-1: no connection to http://127.0.0.1:{port}") for finding in found)
    assert any(f"port {port} of own-1" in finding["what"] for finding in found)


def test_models_are_part_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "corral.yaml").write_text(serving({"own": {"source": {"path": "own.gguf"}}}))
    listed = json.loads(corral(tmp_path, "models", "list", "--json").stdout)
    assert [(entry["name"], entry["state"]) for entry in listed] == [("own", "missing")]
