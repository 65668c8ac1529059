"""For which processor a program is built: the machine field of its ELF header (System V ABI, chapter 4)."""

import sys
from pathlib import Path

_MACHINES = {3: "x86 (32 bit)", 40: "ARM (32 bit)", 62: "x86-64", 183: "aarch64", 243: "RISC-V", 258: "LoongArch"}
_MACHINE = slice(18, 20)
_BIG_ENDIAN = 2


def machine_of(program: Path) -> int | None:
    """Return the machine's number; None where the file is no ELF file (a script, say) or cannot be read."""
    try:
        with program.open("rb") as file:
            header = file.read(20)
    except OSError:
        return None
    if len(header) < 20 or not header.startswith(b"\x7fELF"):
        return None
    return int.from_bytes(header[_MACHINE], "big" if header[5] == _BIG_ENDIAN else "little")


def wrong_machine(program: Path) -> str | None:
    """Return what is wrong if a program is for another processor than the one that runs this Python; else None."""
    found, own = machine_of(program), machine_of(Path(sys.executable))
    if found is None or own is None or found == own:
        return None
    return f"{program} is built for {_name(found)}, and this machine is {_name(own)}"


def _name(machine: int) -> str:
    return _MACHINES.get(machine, f"ELF machine {machine}")
