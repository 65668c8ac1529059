"""LiteLLM's configuration on one machine: the renderer's, with the addresses that the farm really has."""

from collections.abc import Mapping

import yaml

from corral.farm import Server
from corral.local_farm import LocalFarm
from corral.ports import HOST
from corral.render.litellm import config

HEADER = "# Rendered by `corral up` on every start, and by `corral apply`; changes made here are lost.\n"


def render(farm: LocalFarm, ports: Mapping[str, int]) -> str:
    """Return LiteLLM's `config.yaml` for the farm of this machine. It holds no secret: keys come by environment.

    Args:
        farm: the servers behind the gate.
        ports: the port of each server, by its name.
    """
    return HEADER + yaml.safe_dump({**config(farm.file, local_servers(farm, ports))}, sort_keys=False, width=120)


def local_servers(farm: LocalFarm, ports: Mapping[str, int]) -> list[Server]:
    """Return the servers of this machine as renderers know them, with the ports that they have."""
    ((host_name, host),) = farm.file.hosts.items()
    here = host.model_copy(update={"address": HOST})  # whatever the file says: they listen on the loopback
    return [
        Server(
            name=server.name,
            model_name=server.model_name,
            model=server.model,
            host_name=host_name,
            host=here,
            gpu_index=None,
            port=ports[server.name],
            memory_mib=None,
            placement=0,
        )
        for server in farm.servers
    ]
