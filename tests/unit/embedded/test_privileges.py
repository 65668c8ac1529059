"""How PostgreSQL is kept from root's privileges."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from litellm_embedded.errors import EmbeddedError
from litellm_embedded.privileges import Account, account_for, find_capability, setpriv_command

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_setpriv_drops_everything_but_the_capability_that_was_asked_for() -> None:
    command = setpriv_command(Account(65534, 65533), "dac_read_search", signal.SIGINT)
    assert command == [
        "setpriv",
        "--reuid=65534",
        "--regid=65533",
        "--clear-groups",
        "--no-new-privs",
        "--pdeathsig=INT",
        "--securebits=+no_setuid_fixup",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    ]
    assert not [word for word in setpriv_command(Account(1, 1), None, signal.SIGTERM) if "caps" in word]


def test_an_ordinary_user_runs_it_as_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert account_for(tmp_path) is None


@as_root
def test_data_keeps_its_owner_and_new_data_is_nobodys(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert account_for(data) == Account(65534, 65534)
    data.mkdir()
    os.chown(data, 1234, 5678)
    assert account_for(data) == Account(1234, 5678)


@as_root
def test_no_capability_is_asked_for_where_none_is_needed(tmp_path: Path) -> None:
    assert find_capability(Account(65534, 65534), Path("/bin/true"), Path("/")) is None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert find_capability(Account(65534, 65534), Path("/bin/true"), closed) == "dac_read_search"


@as_root
@pytest.mark.parametrize(
    ("missing", "found"),
    [("-dac_read_search", "dac_override"), ("-dac_read_search,-dac_override", "with any capability")],
)
def test_a_container_that_keeps_less_is_served_with_what_it_has(tmp_path: Path, missing: str, found: str) -> None:
    program = (
        "import sys; from pathlib import Path; from litellm_embedded.privileges import Account, find_capability\n"
        "print(find_capability(Account(65534, 65534), Path('/bin/true'), Path(sys.argv[1])))"
    )
    tmp_path.chmod(0o700)
    result = subprocess.run(
        ["setpriv", f"--bounding-set={missing}", sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found in result.stdout + result.stderr


@as_root
def test_a_program_that_nobody_can_run_is_named(tmp_path: Path) -> None:
    program = tmp_path / "postgres"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o600)
    with pytest.raises(EmbeddedError, match="65534") as caught:
        find_capability(Account(65534, 65534), program, tmp_path)
    assert str(program) in str(caught.value)


@as_root
def test_a_missing_setpriv_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError, match="setpriv") as caught:
        find_capability(Account(65534, 65534), Path("/bin/true"), Path("/"))
    assert "util-linux" in caught.value.mend
