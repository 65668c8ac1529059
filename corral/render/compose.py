"""Compose files as typed data: the parts of the format that Corral uses, and the escaping that all strings get."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal, Required, TypedDict

from corral.render.document import Rendered, yaml_file


@dataclass(frozen=True, slots=True)
class Variable:
    """A value that compose reads from `.env`, and refuses to start without.

    Args:
        name: an environment variable.
        mend: what compose says where it is missing.
        default: what counts where it is missing; then nothing is refused.
    """

    name: str
    mend: str = "set it in .env"
    default: str | None = None

    def __str__(self) -> str:
        return f"${{{self.name}:?{self.mend}}}" if self.default is None else f"${{{self.name}:-{self.default}}}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Text and variables, one after the other."""

    parts: tuple[str | Variable, ...]


Text = str | Variable | Joined


class Port(TypedDict, total=False):
    """A published port."""

    target: Required[int]
    published: Required[str]
    host_ip: Text
    protocol: str


class Bind(TypedDict):
    """How a bind mount behaves."""

    create_host_path: bool


class Volume(TypedDict, total=False):
    """A mount, in the long form: a colon or a comma in a path means nothing in it."""

    type: Required[Literal["bind", "volume"]]
    source: Required[Text]
    target: Required[str]
    read_only: bool
    bind: Bind


class Device(TypedDict):
    """A reservation of one GPU."""

    driver: str
    device_ids: list[str]
    capabilities: list[str]


class Reservations(TypedDict):
    """What of the host belongs to a service."""

    devices: list[Device]


class Resources(TypedDict):
    """`deploy.resources`."""

    reservations: Reservations


class Deploy(TypedDict):
    """`deploy`: the part of it that plain compose heeds."""

    resources: Resources


class Healthcheck(TypedDict):
    """When a container counts as healthy."""

    test: list[str]
    interval: str
    timeout: str
    retries: int
    start_period: str


class Dependency(TypedDict):
    """A service to wait for; one that is not required is waited for only until it is found unhealthy."""

    condition: Literal["service_healthy", "service_started"]
    required: bool


class Build(TypedDict, total=False):
    """Where an image is built from."""

    context: Required[Text]
    args: dict[str, str]


class Logging(TypedDict):
    """Rotation of a container's log."""

    driver: str
    options: dict[str, str]


class Service(TypedDict, total=False):
    """One container."""

    image: Required[str]
    build: Build
    pull_policy: str
    profiles: list[str]
    user: str
    entrypoint: list[str]
    command: list[Text]
    environment: dict[str, Text]
    ports: list[Port]
    network_mode: str
    networks: list[str]
    pid: str
    volumes: list[Volume]
    tmpfs: list[str]
    depends_on: dict[str, Dependency]
    healthcheck: Healthcheck
    deploy: Deploy
    mem_limit: str
    shm_size: str
    pids_limit: int
    cpuset: str
    stop_grace_period: str
    restart: str
    read_only: bool
    cap_drop: list[str]
    security_opt: list[str]
    logging: Logging


class External(TypedDict):
    """A network or a volume that another compose file makes."""

    name: str
    external: bool


class ComposeFile(TypedDict, total=False):
    """A whole file."""

    name: Required[str]
    services: Required[dict[str, Service]]
    volumes: dict[str, External | dict[str, str]]
    networks: dict[str, External]


def hardened(service: Service) -> Service:
    """Return a service that comes back after a crash, fills no disk, and can do nothing to its host."""
    return {
        **service,
        "restart": "unless-stopped",
        "read_only": service.get("read_only", True),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    }


def published(host_port: int, container_port: int, address: str) -> Port:
    """Return a port published on one address of the host.

    Docker wants an IP address there. Where the farm file gives a name, `.env` has to say the address: without one the
    port would be open on all networks of the host.
    """
    port: Port = {"target": container_port, "published": str(host_port), "protocol": "tcp"}
    return {**port, "host_ip": address if _is_ip(address) else Variable("LISTEN_ADDRESS", "this host's IP address")}


def mounted(source: Text, target: str) -> Volume:
    """Return a read-only mount. A wrong path stops the start, instead of being made an empty folder."""
    return {"type": "bind", "source": source, "target": target, "read_only": True, "bind": {"create_host_path": False}}


def probed(url: str, *, start_period_s: int) -> Healthcheck:
    """Return the healthcheck of an image that has Python: a GET that must answer 200."""
    return _healthcheck(
        ["python3", "-c", f"import urllib.request as r; r.urlopen('{url}', timeout=3)"], start_period_s=start_period_s
    )


def probed_by_bash(port: int, path: str, *, start_period_s: int) -> Healthcheck:
    """Return the healthcheck of an image that has bash: as `probed`, for 2 ms of CPU instead of 50.

    A GPU host with fifteen servers asks each of them every ten seconds, on two slow cores.
    """
    ask = f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3"
    return _healthcheck(
        ["bash", "-c", f"{ask} && read -rt 3 line <&3 && [[ $line == *' 200 '* ]]"], start_period_s=start_period_s
    )


def _healthcheck(command: list[str], *, start_period_s: int) -> Healthcheck:
    return {
        "test": ["CMD", *command],
        "interval": "10s",
        "timeout": "5s",
        "retries": 3,
        "start_period": f"{start_period_s}s",
    }


def compose_file(path: str, document: ComposeFile) -> Rendered:
    """Return a compose file in which nothing but a `Variable` is interpolated."""
    escaped: dict[str, Any] = _escaped(document)
    return yaml_file(path, escaped)


def _escaped(value: Any) -> Any:
    match value:
        case str():
            return value.replace("$", "$$")
        case Variable():
            return str(value)
        case Joined():
            return "".join(_escaped(part) for part in value.parts)
        case Mapping():
            return {key: _escaped(item) for key, item in value.items()}
        case list():
            return [_escaped(item) for item in value]
        case _:
            return value


def _is_ip(address: str) -> bool:
    try:
        ip_address(address)
    except ValueError:
        return False
    return True
