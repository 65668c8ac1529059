"""Runs every check that applies."""

import asyncio
from typing import Any

from corral.doctor.findings import Finding, Wanted
from corral.doctor.gpus import check_gpus
from corral.doctor.host import check_clock_synchronised, check_disk, check_ports, check_private
from corral.doctor.network import check_skew, contact
from corral.doctor.tools import Run, check_tools, run


async def examine(wanted: Wanted, nvml: Any, run: Run = run) -> list[Finding]:
    """Look at everything, slow things side by side; some seconds at most.

    Args:
        wanted: what the farm needs.
        nvml: the pynvml module, or a fake of it.
        run: runs a program; see `tools`.
    """
    tools, gpus, contacts = await asyncio.gather(
        asyncio.to_thread(check_tools, wanted, run),
        asyncio.to_thread(check_gpus, wanted, nvml),
        contact(wanted.servers, wanted.gate_url),
    )
    answering = {one.local_port for one in contacts if one.local_port is not None}
    findings = [*tools, *gpus, *(one.finding for one in contacts), *check_ports(wanted.ports, answering)]
    if wanted.models_dir is not None:
        findings.append(check_disk(wanted.models_dir, wanted.models_bytes))
    findings.append(check_clock_synchronised())
    if contacts:
        findings.append(check_skew(contacts))
    return [*findings, *check_private(wanted.private_files)]
