"""What stands before a start: a farm whose GPUs would not hold it is refused, with what would make it fit."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from corral.errors import CorralError
from corral.farm import FarmFile
from corral.machine import Machine
from corral.models.remote import Hub
from corral.plan.header_cache import HeaderCache
from corral.plan.headers import DEADLINE_S, Places, headers_of
from corral.plan.here import memory_here_mib, with_machine
from corral.plan.plan import plan


def check_fits(
    file: FarmFile, base: Path, models: Path, headers: Path, machine: Machine, environ: Mapping[str, str]
) -> None:
    """Refuse a farm of this machine that does not fit its GPUs.

    A model that is not here yet is judged by its header, from where it comes; one whose header cannot be had passes,
    since its own start will tell.

    Args:
        file: the farm file.
        base: its folder.
        models: where models lie.
        headers: where fetched headers are kept.
        machine: with the GPUs.
        environ: names the model hub.

    Raises:
        CorralError: it does not fit; says by how much, and what to change.
    """
    check_plan(with_machine(file, machine, memory_here_mib()), base, models, headers, environ)


def check_plan(
    farm: FarmFile, base: Path, models: Path, headers: Path, environ: Mapping[str, str], deadline_s: float = DEADLINE_S
) -> None:
    """Refuse a farm that does not fit the GPUs and hosts that its file lists; see `check_fits`.

    Args:
        farm: the farm file's content.
        base: its folder.
        models: where models lie.
        headers: where fetched headers are kept.
        environ: names the model hub.
        deadline_s: how long it may be asked for headers.

    Raises:
        CorralError: it does not fit; says by how much, and what to change.
    """
    hub = Hub.from_environment(environ)
    places = Places(base=base, models=models, cache=HeaderCache(headers), hub=hub, deadline_s=deadline_s)
    known = asyncio.run(headers_of(farm, places))
    errors = [one for one in plan(farm, known, allow_unknown=True).findings if one.level == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: corral plan)" if len(errors) > 1 else ""
        first = errors[0]
        raise CorralError(f"the farm does not fit: {first.where}: {first.what}", f"{first.mend}{more}")
