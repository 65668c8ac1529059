"""`corral doctor`: prints what was found, worst last, and ends with exit code 1 if the farm cannot work so.

`doctor` takes a `Wanted`; the command makes one from its options, and `corral` from the farm file.
"""

import asyncio
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pynvml
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from corral.doctor.examination import examine
from corral.doctor.findings import LEVELS, Finding, Level, Wanted, WantedGpu, worst
from corral.errors import CorralError
from corral.ports import is_number

PIPED_WIDTH = 200  # columns, where no terminal says how wide it is
_STYLES: dict[Level, str] = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}

app = typer.Typer(name="doctor", add_completion=False)


def doctor(wanted: Wanted, *, as_json: bool = False, nvml: Any = pynvml) -> int:
    """Look at everything, print it, and return the exit code: 1 if there is an error, else 0."""
    findings = asyncio.run(examine(wanted, nvml))
    if as_json:
        document = {"worst": worst(findings), "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(findings)
    return int(worst(findings) == "error")


@app.command()
def command(
    server: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="A gpu-server; give it again for each.")
    ] = None,
    gate: Annotated[str | None, typer.Option(metavar="URL", help="The LiteLLM proxy.")] = None,
    port: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PORT", help="A port of this machine that the farm wants.")
    ] = None,
    gpu: Annotated[
        list[str] | None, typer.Option(metavar="UUID[=WATTS]", help="A GPU of this machine, and its power limit.")
    ] = None,
    models: Annotated[Path | None, typer.Option(help="The folder with the models.")] = None,
    private: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="A file or folder with secrets; give it again for each.")
    ] = None,
    containers: Annotated[bool, typer.Option(help="Look at Docker and the container toolkit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Look at this machine and the farm's servers; each finding comes with its mend. Changes nothing.

    Exit code 1 if there is an error, else 0.

    [bold]Examples[/bold]

      corral doctor

      corral doctor --server chat-1=http://10.0.0.5:8080 --gate http://127.0.0.1:4000

      corral doctor --json | jq -r '.findings[] | select(.level == "error") | .mend'
    """
    try:
        wanted = Wanted(
            servers=tuple(_pair(text, "--server", "NAME=URL") for text in server or ()),
            gate_url=gate,
            ports=tuple(_port(text) for text in port or ()),
            gpus=tuple(_gpu(text) for text in gpu or ()),
            containers=containers,
            models_dir=models,
            private_files=tuple(private or ()),
        )
    except CorralError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    raise typer.Exit(doctor(wanted, as_json=as_json))


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise CorralError(f"{option} {text!r} is incomplete", f"give {option} {form}", exit_code=2)
    return name, value


def _port(text: str) -> tuple[str, int]:
    name, number = _pair(text, "--port", "NAME=PORT")
    if not is_number(number):
        raise CorralError(f"--port {text!r} names no port", "give a number from 1 to 65535", exit_code=2)
    return name, int(number)


def _gpu(text: str) -> WantedGpu:
    uuid, equals, watts = text.partition("=")
    if not uuid or (equals and not (watts.isascii() and watts.isdigit())):
        raise CorralError(f"--gpu {text!r} is not understood", "give UUID or UUID=WATTS", exit_code=2)
    return WantedGpu(uuid, power_limit_w=int(watts) if watts else None)


def _print(findings: list[Finding]) -> None:
    table = Table("check", "level", "what", "mend", box=None, pad_edge=False)
    for finding in sorted(findings, key=lambda finding: LEVELS.index(finding.level)):
        style = _STYLES[finding.level]
        table.add_row(finding.check, Text(finding.level, style), Text(finding.what), Text(finding.mend))
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table)
    counted = Counter(finding.level for finding in findings)
    said = ", ".join(f"{counted[level]} {level}" for level in reversed(LEVELS) if counted[level])
    console.print(f"\n{said}", highlight=False)


if __name__ == "__main__":
    app(prog_name="corral doctor")
