"""Options that several commands share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from corral.paths import DEFAULT_FARM_FILE, OWN_FARM_FILE, StateDir

StateOption = Annotated[
    Path, typer.Option("--state", envvar="CORRAL_STATE", help="Folder with the farm's data and secrets.")
]
DEFAULT_STATE = Path(".corral")
FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", envvar="CORRAL_FILE", help="The farm file; corral.yaml, else farms/laptop.yaml."),
]
_OWN_VARIABLES = ("CORRAL_STATE", "CORRAL_FILE")


def state_dir(root: Path) -> StateDir:
    """Return the state folder, absolute."""
    return StateDir(root.resolve())


def farm_file(named: Path | None) -> Path:
    """Return the farm file: the one named, else corral.yaml here, else the checkout's farms/laptop.yaml."""
    if named is not None:
        return named.absolute()
    return OWN_FARM_FILE.absolute() if OWN_FARM_FILE.exists() else DEFAULT_FARM_FILE


def environment_of_parts(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without this command's own options, which what it starts would misread."""
    return {name: value for name, value in environment.items() if name not in _OWN_VARIABLES}
