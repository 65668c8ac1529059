"""The small values that a farm file is made of. Each refusal is `what; mend`."""

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_GPU_UUID = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]{4,100}")
_COMPUTE = re.compile(r"\d{1,2}\.\d")
_CPUSET = re.compile(r"\d{1,3}(-\d{1,3})?(,\d{1,3}(-\d{1,3})?)*")
_IMAGE = re.compile(r"[a-z0-9]([a-z0-9._/:-]{0,198}[a-z0-9])?(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?", re.ASCII)
_DOCKER = re.compile(
    r"local|context:[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"
    r"|ssh://([A-Za-z_][A-Za-z0-9._-]{0,63}@)?[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:\d{1,5})?"
)
_HTTPS_URL = re.compile(
    r"https://([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?(/[A-Za-z0-9._~/%?&=+,-]{0,300})?"
)
_RANGE = re.compile(r"(\d{1,5})\s*-\s*(\d{1,5})")


class Part(BaseModel):
    """A part of a farm file: frozen, and what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            "cannot be a name; use small letters, digits and dashes, 40 at most, a letter or digit at the ends"
        )
    return text


def _model_name(text: str) -> str:
    if not _MODEL_NAME.fullmatch(text):
        raise ValueError("cannot name a model; use letters, digits, dots, dashes and underscores, 64 at most")
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if not _HOST_NAME.fullmatch(text):
            raise ValueError("is no address; give an IP address or a host's name, without port or scheme") from None
        return text.lower()


def is_loopback(address: str) -> bool:
    """Return whether only the host itself reaches an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise ValueError("is no name of an environment variable; give one like OPENAI_API_KEY, never the key itself")
    return text


def _gpu_uuid(text: str) -> str:
    if not _GPU_UUID.fullmatch(text):
        raise ValueError("is no UUID of a GPU; `nvidia-smi -L` prints them: GPU-xxxxxxxx-...")
    return text


def _compute_capability(text: str) -> str:
    if not _COMPUTE.fullmatch(text):
        raise ValueError('is no compute capability; give it in quotes, like "6.1"')
    return text


def _cpuset(text: str) -> str:
    if not _CPUSET.fullmatch(text):
        raise ValueError('is no set of CPUs; give it in quotes, like "0-1" or "0,2"')
    return text


def _docker(text: str) -> str:
    if not _DOCKER.fullmatch(text):
        raise ValueError("reaches no Docker engine; give ssh://USER@HOST, context:NAME (`docker context ls`), or local")
    return text


def _image(text: str) -> str:
    if not _IMAGE.fullmatch(text):
        raise ValueError("is no image; give one like ghcr.io/owner/name:tag or with @sha256:<digest>")
    return text


def _https_url(text: str) -> str:
    if _HTTPS_URL.fullmatch(text):
        return text
    for beginning, what in (("http://", "is not served over TLS"), ("", "is no URL")):
        meant = f"https://{text.removeprefix('http://')}"
        if text.startswith(beginning) and _HTTPS_URL.fullmatch(meant):
            raise ValueError(f"{what}; write {meant}")
    raise ValueError("is no https URL without a password; write one like https://gate.example/health/liveliness")


def _plain(text: str) -> str:
    if not text.isprintable() or "$" in text or "`" in text:
        raise ValueError("holds a control character, $ or a backtick; take it out")
    return text


def _ports(value: object) -> object:
    """Read `8080-8086`, `8080` or a list into a tuple."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return (value,)
    if isinstance(value, str) and (found := _RANGE.fullmatch(value.strip())):
        first, last = int(found[1]), int(found[2])
        if first > last or last - first > 4096:
            raise ValueError(
                f"is no range of ports; give the lower one first, like {min(first, last)}-{max(first, last)}"
            )
        return tuple(range(first, last + 1))
    if isinstance(value, str):
        raise ValueError("is no range of ports; give one like 8080-8086, or a list of ports")  # noqa: TRY004  # Pydantic's
    return tuple(value) if isinstance(value, list) else value


Name = Annotated[str, AfterValidator(_name)]
ModelName = Annotated[str, AfterValidator(_model_name)]
Address = Annotated[str, AfterValidator(_address)]
Variable = Annotated[str, AfterValidator(_variable)]
GpuUuid = Annotated[str, AfterValidator(_gpu_uuid)]
ComputeCapability = Annotated[str, AfterValidator(_compute_capability)]
CpuSet = Annotated[str, AfterValidator(_cpuset)]
DockerEngine = Annotated[str, AfterValidator(_docker)]
Image = Annotated[str, AfterValidator(_image)]
HttpsUrl = Annotated[str, AfterValidator(_https_url)]
Plain = Annotated[str, Field(max_length=500), AfterValidator(_plain)]
Port = Annotated[int, Field(ge=1, le=65535)]
Ports = Annotated[
    tuple[Port, ...],
    BeforeValidator(_ports, json_schema_input_type=Port | str | list[Port]),
    Field(min_length=1),
]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
ModelMode = Literal["chat", "embedding", "rerank", "transcription", "image"]
