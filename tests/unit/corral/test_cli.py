"""The `corral` command itself: its commands are found, and imported only when needed."""

import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from corral.cli import app


def test_each_command_is_there_with_its_help() -> None:
    group = get_command(app)
    names = group.list_commands(None)  # type: ignore[attr-defined]
    for name in names:
        command = group.get_command(None, name)  # type: ignore[attr-defined]
        assert command.name == name
        assert command.help, name
    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert [name for name in names if f" {name} " not in told] == []


@pytest.mark.parametrize(("typed", "said"), [("statu", "Did you mean 'status'?"), ("xyz", "No such command 'xyz'")])
def test_a_command_that_is_not_there(typed: str, said: str) -> None:
    result = CliRunner().invoke(app, [typed], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert said in result.output


def test_looking_at_logs_does_not_wait_for_the_model_of_a_farm_file() -> None:
    code = (
        "import sys; from typer.main import get_command; from corral.cli import app;"
        "get_command(app).get_command(None, 'logs'); sys.exit('corral.farm' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("corral 0.")
