"""The secrets of Langfuse's containers: all that compose asks for, once."""

import re
import subprocess
from pathlib import Path

import pytest

from corral.farm import load_farm
from corral.render import render
from support.farm import CHECKOUT
from support.random_farms import FARMS

MAKE_ENV = CHECKOUT / "langfuse" / "make-env"


def made(file: Path) -> dict[str, str]:
    subprocess.run([MAKE_ENV, file], check=True, capture_output=True, timeout=20)
    lines = file.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_every_variable_that_compose_asks_for_is_made_and_no_other(tmp_path: Path) -> None:
    farm = tmp_path / "corral.yaml"
    farm.write_text((FARMS / "two-hosts.yaml").read_text() + "langfuse: {host: gate}\n")
    (compose,) = [file.text for file in render(load_farm(farm).value) if str(file.path) == "langfuse/compose.yaml"]
    variables = made(tmp_path / ".env")
    assert set(variables) == set(re.findall(r"\$\{(\w+):\?", compose))
    assert all(variables.values())
    assert re.fullmatch(r"[0-9a-f]{64}", variables["LANGFUSE_ENCRYPTION_KEY"])  # Langfuse takes no other form


def test_they_are_private_fresh_and_never_overwritten(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    assert not set(made(first).values()) & set(made(second).values()) - {"admin@example.com"}
    assert first.stat().st_mode & 0o777 == 0o600
    before = first.read_text()
    with pytest.raises(subprocess.CalledProcessError) as refused:
        made(first)
    assert refused.value.returncode == 2
    assert b"is there; its database could not be read with other secrets" in refused.value.stderr
    assert first.read_text() == before
