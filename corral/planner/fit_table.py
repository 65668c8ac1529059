"""llama-server's own memory table, for a look beside the plan: `confirm` runs it just far enough to print that.

With `-lv 4`, llama-server reckons the memory of its settings before it loads a weight, and prints a table in MiB
(`common_memory_breakdown_print` in common/fit.cpp). It is stopped then: nothing is loaded, no port is published.
"""

import asyncio
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from corral.errors import CorralError
from corral.planner.estimate_server import ServerShape

DEADLINE_S = 60.0
_LAST_LINES = 3
_LONGEST_LINE = 1024 * 1024
_ROW = re.compile(
    r"common_memory_breakdown_print: \|\s+- (?P<name>[^|]+?)\s*\|"
    r"(?:\s*(?P<total>\d+) =\s*(?P<free>\d+) \+ \()?"
    r"\s*\d+ =\s*(?P<model>\d+) \+\s*(?P<context>\d+) \+\s*(?P<compute>\d+)"
)
_TITLE = "memory breakdown [MiB]"
_LEVEL = re.compile(r"^[\d.]+ [A-Z] ")


class ConfirmError(CorralError):
    """llama-server did not give its table."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device's row, in whole MiB (rounded down). `total_mib` and `free_mib` are None for the host."""

    device: str
    total_mib: int | None
    free_mib: int | None
    model_mib: int
    context_mib: int
    compute_mib: int

    @property
    def host(self) -> bool:
        """Whether it is memory of the host, not of a GPU."""
        return self.total_mib is None


async def confirm(
    command: Sequence[str | Path],
    model: Path,
    server: ServerShape,
    *,
    deadline_s: float = DEADLINE_S,
    environ: Mapping[str, str] | None = None,
) -> tuple[DeviceRow, ...]:
    """Run llama-server with these settings until it has printed its table, stop it, and return the rows.

    `command` is the program with any words before its flags. `environ` replaces this process's environment, of which
    `LLAMA_ARG_*` never reaches llama-server.

    Raises:
        ConfirmError: it cannot be started, ends first (its last lines are shown) or takes longer than `deadline_s`.
    """
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        async with asyncio.timeout(deadline_s), _running([*map(str, command), *flags(model, server)], environ) as lines:
            rows = await _read_table(lines, last)
    except TimeoutError:
        raise ConfirmError(
            f"{command[0]} printed no memory table in {deadline_s:g} s", "use a llama-server of b9603 or newer"
        ) from None
    except OSError as error:
        raise ConfirmError(
            f"{command[0]} cannot be started ({error.strerror})", "set LLAMA_SERVER to a llama-server"
        ) from None
    if not rows:
        said = " | ".join(last) or "it said nothing"
        raise ConfirmError(f"{command[0]} ended without a memory table ({said})", "mend what it says")
    return rows


def flags(model: Path, server: ServerShape) -> list[str]:
    """Return llama-server's flags for these settings and a table; it listens on a free port of the loopback."""
    words = ["--model", str(model), "--host", "127.0.0.1", "--port", "0", "--log-verbosity", "4", "--no-warmup"]
    words += ["--ctx-size", str(server.context), "--parallel", str(server.slots)]
    words += ["--batch-size", str(server.batch), "--ubatch-size", str(server.ubatch)]
    words += ["--cache-type-k", server.type_k, "--cache-type-v", server.type_v]
    words += ["--flash-attn", server.flash_attention, "--n-gpu-layers", str(server.gpu_layers)]
    if server.kv_unified:
        words.append("--kv-unified")
    if server.mode != "chat":
        words.append("--embedding" if server.mode == "embedding" else "--reranking")
    return words


def parse_table(lines: Iterable[str]) -> tuple[DeviceRow, ...]:
    """Return the rows of the first memory table in a log; none if it has no table."""
    rows: list[DeviceRow] = []
    for line in lines:
        row = _ROW.search(line)
        if row:
            rows.append(_device_row(row))
        elif rows:
            break
    return tuple(rows)


def _device_row(row: re.Match[str]) -> DeviceRow:
    def number(name: str) -> int | None:
        return int(row[name]) if row[name] else None

    return DeviceRow(
        device=row["name"],
        total_mib=number("total"),
        free_mib=number("free"),
        model_mib=int(row["model"]),
        context_mib=int(row["context"]),
        compute_mib=int(row["compute"]),
    )


async def _read_table(output: asyncio.StreamReader, last: deque[str]) -> tuple[DeviceRow, ...]:
    table: list[str] = []
    async for raw in output:
        line = raw.decode("utf-8", "replace").rstrip()
        if _ROW.search(line) or _TITLE in line:
            table.append(line)
        elif len(table) > 1:
            break
        elif line:
            last.append(_LEVEL.sub("", line))
    return parse_table(table)


@asynccontextmanager
async def _running(argv: list[str], environ: Mapping[str, str] | None) -> AsyncIterator[asyncio.StreamReader]:
    """Start llama-server and give its output; it is gone afterwards."""
    given = os.environ if environ is None else environ
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=_LONGEST_LINE,
        env={name: value for name, value in given.items() if not name.startswith("LLAMA_ARG_")},
    )
    assert process.stdout is not None  # it was asked for  # noqa: S101
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.wait())
