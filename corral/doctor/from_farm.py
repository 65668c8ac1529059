"""What the doctor looks at, taken from the farm file: `corral doctor --file corral.yaml`."""

import ipaddress
import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import psutil
import typer

from corral import farmstate, ports
from corral.doctor.cli import doctor
from corral.doctor.findings import Wanted, WantedGpu
from corral.farm import FarmFile, load_farm, servers_of
from corral.farm.host import Host
from corral.farm.servers import base_name
from corral.farmstate import FarmState
from corral.keeper.probe import listener_is
from corral.models.sources import PackageSource
from corral.paths import CHECKOUT, StateDir

DEFAULT_FILE = Path("corral.yaml")
PACKAGED_FARM = CHECKOUT / "farms" / "laptop.yaml"
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared with, never listened on


def wanted_of(
    farm: FarmFile, base: Path, state: StateDir | None = None, *, addresses: Collection[str] | None = None
) -> Wanted:
    """Return what a farm needs of this machine and of the servers it reaches from here.

    Ports, cards and folders are those of the host that this machine is: the one with `runtime: processes`, else the one
    whose address this machine has. Where it is none of them, only servers and gate are looked at.

    Args:
        farm: the farm file.
        base: the folder that it lies in.
        state: of a one-machine farm; the ports of its last start count over those of the file.
        addresses: of this machine; None: looked up.
    """
    here = _here(farm, _own_addresses() if addresses is None else addresses)
    host = farm.hosts[here] if here is not None else None
    local = state is not None and host is not None and host.runtime == "processes"
    used = ports.remembered(state.ports_file) if state is not None and local else {}
    wanted = Wanted(servers=tuple(_servers(farm, used)), gate_url=_gate_url(farm, here, used))
    if host is None:
        return wanted
    return replace(
        wanted,
        ports=tuple(_ports(farm, used, state)) if host.runtime == "processes" else (),
        gpus=tuple(
            WantedGpu(gpu.uuid, gpu.memory_mib, gpu.power_limit_w) for gpu in host.known_gpus if gpu.uuid is not None
        ),
        containers=host.runtime == "compose",
        models_dir=_models_dir(host, state),
        models_bytes=_to_convert(farm, state) if local and state is not None else 0,
        private_files=tuple(_private(host, base, state)),
    )


def _here(farm: FarmFile, addresses: Collection[str]) -> str | None:
    for name, host in farm.hosts.items():
        if host.runtime == "processes" or host.address in addresses:
            return name
    return None


def _own_addresses() -> set[str]:
    interfaces = psutil.net_if_addrs().values()
    return {"localhost", *(address.address.partition("%")[0] for found in interfaces for address in found)}


def _servers(farm: FarmFile, used: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Give name and URL of each gpu-server; an image server answers none of the doctor's questions."""
    told = set()
    for server in servers_of(farm):
        if server.model.mode != "image":
            told.add(server.name)
            yield server.name, _url(server.host.address, used.get(server.name, server.port))
    for placement in farm.servers:  # one for each card that was found at the last start
        host = farm.hosts[placement.host]
        if host.gpus == "detect" and placement.gpus == "all":
            for name, port in used.items():
                if name.rpartition("-")[0] == base_name(placement) and name not in told:
                    yield name, _url(host.address, port)


def _gate_url(farm: FarmFile, here: str | None, used: dict[str, int]) -> str | None:
    port = used.get("litellm", farm.proxy.port)
    listen = farm.proxy.listen
    if farm.gate_host != here:
        return None if _is_loopback(listen) else _url(_reached_at(farm, listen), port)
    return _url("127.0.0.1" if listen in _ANYWHERE else listen, port)


def _reached_at(farm: FarmFile, listen: str) -> str:
    return farm.hosts[farm.gate_host].address if listen in _ANYWHERE else listen


def _ports(farm: FarmFile, used: dict[str, int], state: StateDir | None) -> Iterator[tuple[str, int]]:
    running = None if state is None else farmstate.read(state.state_file)
    held = _held(running) if running is not None and farmstate.keeper(running) is not None else frozenset()
    wanted = [
        ("gate", used.get("litellm", farm.proxy.port)),
        ("database", used.get("postgres", farm.proxy.database_port)),
        *((server.name, used.get(server.name, server.port)) for server in servers_of(farm)),
    ]
    yield from ((name, port) for name, port in wanted if port not in held)


def _held(running: FarmState) -> frozenset[int]:
    """Return the ports at which parts of a running farm listen, rightly: also one that hangs, and a database."""
    processes = ((part.port, farmstate.process(part.pid, part.pid_created)) for part in running.services())
    return frozenset(port for port, process in processes if process is not None and listener_is(process.pid, port))


def _models_dir(host: Host, state: StateDir | None) -> Path | None:
    if host.runtime == "compose":
        return Path(host.models_dir)
    return state.models if state is not None else None


def _to_convert(farm: FarmFile, state: StateDir) -> int:
    """Return the bytes of packaged models that the next start converts; downloads' sizes only their server knows."""
    packaged = [model.source.model for model in farm.models.values() if isinstance(model.source, PackageSource)]
    converted = {model.converted for model in packaged if model.converted is not None}
    return sum(file.size for file in converted if not (state.models / file.path).exists())


def _private(host: Host, base: Path, state: StateDir | None) -> Iterator[Path]:
    if state is not None and host.runtime == "processes":
        yield state.root
        yield state.secrets_file
    if host.runtime == "compose" or (base / ".env").exists():
        yield base / ".env"


def _url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def command(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help=f"The farm file; {DEFAULT_FILE} if it is there.")
    ] = None,
    state: Annotated[
        Path, typer.Option("--state", envvar="CORRAL_STATE", help="Folder with the farm's data and secrets.")
    ] = Path(".corral"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Look at this machine and the farm's servers; each finding comes with its mend. Changes nothing.

    Exit code 1 if there is an error, else 0.

    [bold]Examples[/bold]

      corral doctor

      corral doctor --file farms/two-hosts.yaml

      corral doctor --json | jq -r '.findings[] | select(.level == "error") | .mend'
    """
    path = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else PACKAGED_FARM)
    wanted = wanted_of(load_farm(path).value, path.resolve().parent, StateDir(state.resolve()))
    if named := os.environ.get("LLAMA_SERVER"):
        wanted = replace(wanted, llama_server=Path(named).expanduser())
    raise typer.Exit(doctor(wanted, as_json=as_json))
