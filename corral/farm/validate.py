"""`corral validate`: says whether a farm file is in order, and what it comes to."""

from pathlib import Path
from typing import Annotated

import typer

from corral.farm import FarmFile, load_farm, servers_of


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The farm file.")] = Path("corral.yaml"),
) -> None:
    """Check a farm file: all that is wrong with it at once, each with line, column and mend. Exit code 2 then.

    [bold]Examples[/bold]

      corral validate

      corral validate farms/two-hosts.yaml
    """
    typer.echo(f"{file}: ok, {summary(load_farm(file).value)}")


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
