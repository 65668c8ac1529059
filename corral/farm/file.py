"""The farm file as a whole."""

from functools import cached_property
from typing import Literal

from pydantic import Field

from corral.farm.gate import Langfuse, Monitoring, Provider, Proxy
from corral.farm.host import Host
from corral.farm.model import Model
from corral.farm.placement import Placement
from corral.farm.values import ModelName, Name, Part


class FarmFile(Part):
    """Hosts, models, what runs where, and the gate before them (contract 5). It never holds a secret."""

    version: Literal[1] = Field(default=1, description="Version of this format.")
    name: Name = Field(default="corral", description="The farm's name; compose projects and dashboards carry it.")
    hosts: dict[Name, Host] = Field(min_length=1, description="The machines, by name.")
    models: dict[ModelName, Model] = Field(min_length=1, description="The models, by the name that clients ask for.")
    servers: tuple[Placement, ...] = Field(min_length=1, description="What runs where.")
    proxy: Proxy = Field(default=Proxy(), description="The gate.")
    providers: dict[ModelName, Provider] = Field(default={}, description="Models elsewhere, behind the same gate.")
    monitoring: Monitoring | None = Field(default=None, description="Unset: none is rendered.")
    langfuse: Langfuse | None = Field(default=None, description="Unset: nothing is traced.")

    @cached_property
    def gate_host(self) -> str:
        """The name of the host that the gate runs on."""
        return self.proxy.host or next(iter(self.hosts))

    @cached_property
    def monitoring_host(self) -> str:
        """The name of the host that monitoring runs on."""
        return (self.monitoring.host if self.monitoring else None) or self.gate_host

    @cached_property
    def langfuse_url(self) -> str | None:
        """Where the gate reaches Langfuse; None where nothing is traced."""
        if self.langfuse is None or self.langfuse.url or self.langfuse.host is None:
            return self.langfuse.url if self.langfuse else None
        address = self.langfuse.listen
        if address is None or address in ("0.0.0.0", "::"):  # noqa: S104  # compared
            address = self.hosts[self.langfuse.host].address
        return (
            f"http://[{address}]:{self.langfuse.port}" if ":" in address else f"http://{address}:{self.langfuse.port}"
        )
