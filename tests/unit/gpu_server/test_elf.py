"""For which processor a program is built."""

import sys
from pathlib import Path

import pytest

from gpu_server.elf import machine_of, wrong_machine

MACHINE = {"x86-64": 62, "aarch64": 183, "ELF machine 22": 22}


def elf(machine: int, order: str = "little") -> bytes:
    ident = b"\x7fELF\x02" + (b"\x01" if order == "little" else b"\x02") + bytes(10)
    return ident + (2).to_bytes(2, order) + machine.to_bytes(2, order)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_machine_is_read_in_the_files_own_byte_order(tmp_path: Path, order: str) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(elf(183, order))
    assert machine_of(program) == 183


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", elf(62)[:19]], ids=["empty", "script", "cut short"])
def test_what_is_no_elf_file_is_not_judged(tmp_path: Path, content: bytes) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(content)
    assert machine_of(program) is None
    assert wrong_machine(program) is None
    assert wrong_machine(tmp_path / "absent") is None


def test_this_python_is_for_this_machine_and_a_foreign_program_is_not(tmp_path: Path) -> None:
    assert wrong_machine(Path(sys.executable)) is None
    own = machine_of(Path(sys.executable))
    name, foreign = next((name, machine) for name, machine in MACHINE.items() if machine != own)
    program = tmp_path / "llama-server"
    program.write_bytes(elf(foreign))
    assert f"is built for {name}, and this machine is" in str(wrong_machine(program))
