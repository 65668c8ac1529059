"""`corral validate`: says whether a farm file is in order, and what it comes to."""

from pathlib import Path
from typing import Annotated

import typer

from corral.farm import FarmFile, load_farm, servers_of
from corral.paths import OWN_FARM_FILE


def command(
    farm: Annotated[Path | None, typer.Argument(metavar="FILE", help="The farm file; corral.yaml if none.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", envvar="CORRAL_FILE", help="The same, as other commands have it.")
    ] = None,
) -> None:
    """Check a farm file: all that is wrong with it at once, each with line, column and mend. Exit code 2 then.

    [bold]Examples[/bold]

      corral validate

      corral validate farms/two-hosts.yaml
    """
    path = farm or file or OWN_FARM_FILE
    typer.echo(f"{path}: ok, {summary(load_farm(path).value)}")


def summary(farm: FarmFile) -> str:
    """Return what a farm comes to, in a few words."""
    detected = any(host.gpus == "detect" for host in farm.hosts.values())
    counts = (
        (len(farm.hosts), "host"),
        (sum(len(host.known_gpus) for host in farm.hosts.values()), "GPU"),
        (len(farm.models), "model"),
        (len(servers_of(farm)), "server"),
        (len(farm.providers), "provider"),
    )
    said = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count)
    return f"farm {farm.name}: {said}" + (" without the GPUs that are detected" if detected else "")
