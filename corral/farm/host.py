"""The machines of a farm and their GPUs."""

from typing import Literal, Self

from pydantic import Field, model_validator

from corral.farm.values import Address, ComputeCapability, CpuSet, DockerEngine, GpuUuid, Image, Part, Plain

Runtime = Literal["processes", "compose"]


class Gpu(Part):
    """One card. What is not given is asked of the driver where the plan is made on that host."""

    memory_mib: int = Field(ge=256, description="Memory, as `nvidia-smi` says it.")
    uuid: GpuUuid | None = Field(default=None, description="What pins a server to it; without, its place in the list.")
    name: Plain = Field(default="", description="For people.")
    compute_capability: ComputeCapability | None = Field(
        default=None, description="Which CUDA kernels it can run.", examples=["6.1"]
    )
    power_limit_w: int | None = Field(default=None, ge=10, le=2000, description="Set by the host's power service.")


class Host(Part):
    """One machine. `processes` runs everything as plain processes of one user, `compose` in containers."""

    address: Address = Field(default="127.0.0.1", description="Where the other hosts reach it.")
    runtime: Runtime = Field(default="compose", description="How its servers run.")
    docker: DockerEngine | None = Field(
        default=None,
        description="How `corral apply` reaches its Docker engine; unset: it must be the machine that apply runs on.",
        examples=["ssh://corral@192.168.1.20"],
    )
    cores: int | None = Field(default=None, ge=1, le=1024, description="CPU cores that the servers may use.")
    memory_mib: int | None = Field(default=None, ge=256, description="Host memory.")
    power_budget_w: int | None = Field(
        default=None, ge=10, description="What the power supply gives all GPUs together."
    )
    gpus: tuple[Gpu, ...] | Literal["detect"] = Field(
        default=(), description="Its cards in the driver's order; `detect` on a host of one's own: what is found there."
    )
    image: Image | None = Field(
        default=None, description="Image of the gpu-server; unset: built from gpu-server/Dockerfile."
    )
    llama_server_base: Image | None = Field(
        default=None, description="Image with llama-server that the gpu-server image is built on."
    )
    models_dir: str = Field(
        default="/srv/corral/models", pattern=r"^/[A-Za-z0-9._/-]{1,200}$", description="Where its GGUF files lie."
    )
    cpuset: CpuSet | None = Field(default=None, description="CPUs of its containers.")
    power_service: bool = Field(default=True, description="Whether setup-host.sh may install the power limit service.")

    @model_validator(mode="after")
    def _detection_needs_this_machine(self) -> Self:
        if self.gpus == "detect" and self.runtime != "processes":
            raise ValueError("gpus: detect works with runtime: processes only; list the GPUs of a compose host")
        return self

    @property
    def known_gpus(self) -> tuple[Gpu, ...]:
        """The cards that the file lists."""
        return () if self.gpus == "detect" else self.gpus
