"""Where a model's GGUF comes from, as a farm file says it under `models.NAME.source`.

    {package: smollm2-135m-instruct}                                  carried by a Python package
    {url: https://host/model.gguf, sha256: 64 hex digits}             any web server
    {hub: owner/repository, file: model-Q5_K_M.gguf, revision: main}  a model hub, the public one or HF_ENDPOINT
    {path: /models/model.gguf}                                        a file that is there; relative to the farm file

The key that is given says which kind it is. Each message of a refusal is `what; mend`.
"""

import re
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    field_validator,
)

from corral.models.catalogue import BY_SOURCE, PackagedModel

KINDS = ("package", "url", "hub", "path")
LONGEST_TEXT = 2048

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_SECRET_PARAMETER = re.compile(
    r"(^|[-_])(token|secret|password|passwd|signature|sig|api_?key|credential)$", re.IGNORECASE
)


def _printable(text: str) -> str:
    if not text or len(text) > LONGEST_TEXT:
        raise ValueError(f"has {len(text)} characters; give 1 to {LONGEST_TEXT:,}")
    if not text.isprintable():
        raise ValueError("holds a line break or another control character; take it out")
    return text


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ValueError("is no SHA-256; give its 64 hexadecimal digits, in quotes: sha256sum FILE prints them")
    return text


Text = Annotated[str, AfterValidator(_printable)]
Sha256 = Annotated[str, BeforeValidator(_lower), AfterValidator(_sha256)]
Checksum = Annotated[Sha256 | None, Field(description="What the file's SHA-256 must be.")]


class _Source(BaseModel):
    """A value from the outside: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def origin(self) -> dict[str, str]:
        """What the bytes depend on; two sources with one origin give the same file."""
        return self.model_dump(exclude={"sha256"})


class _PinnedSource(_Source):
    sha256: Checksum = None


class PackageSource(_Source):
    """A model that a Python package carries; its checksum is part of Corral."""

    package: Text = Field(description="A name of the packaged catalogue.", examples=sorted(BY_SOURCE))

    @field_validator("package")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in BY_SOURCE:
            raise ValueError(f"no packaged model is called {name!r}; the packaged ones are {', '.join(BY_SOURCE)}")
        return name

    @property
    def model(self) -> PackagedModel:
        """The model in the catalogue."""
        return BY_SOURCE[self.package]

    def __str__(self) -> str:
        return f"package {self.package}"


class UrlSource(_PinnedSource):
    """A GGUF on a web server. Without `sha256` nothing tells a right file from a wrong one of the same size."""

    url: Text = Field(description="Its http or https address.")

    @field_validator("url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or " " in url:
            raise ValueError("is no http or https address; give one like https://host/model.gguf")
        if parts.username is not None or parts.password is not None:
            raise ValueError("holds a user or password, and a farm file holds no secret; put them into ~/.netrc")
        if any(_SECRET_PARAMETER.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
            raise ValueError("holds a token or signature, and a farm file holds no secret; download it and give path:")
        return _not_split(url, parts.path)

    def __str__(self) -> str:
        return self.url.partition("?")[0]


class HubSource(_PinnedSource):
    """A GGUF on a model hub. The hub itself says the SHA-256 of large files; `sha256` here pins it."""

    hub: Text = Field(description="The repository.", examples=["owner/repository"])
    file: Text = Field(description="The file in it.", examples=["model-Q5_K_M.gguf"])
    revision: Text = Field(default="main", description="A branch, tag or commit.")

    @field_validator("hub")
    @classmethod
    def _is_repository(cls, name: str) -> str:
        if not _REPOSITORY.fullmatch(name) or ".." in name:
            raise ValueError("is no repository; give owner/repository")
        return name

    @field_validator("file")
    @classmethod
    def _is_inside(cls, name: str) -> str:
        if name.startswith("/") or "\\" in name or any(step in ("", ".", "..") for step in name.split("/")):
            raise ValueError("is no file of a repository; give its name as the repository lists it, without ..")
        if not name.lower().endswith(".gguf"):
            raise ValueError("is no .gguf file; llama-server loads GGUF only, choose a repository that has it")
        return _not_split(name, name)

    @field_validator("revision")
    @classmethod
    def _is_revision(cls, name: str) -> str:
        if not _REVISION.fullmatch(name) or ".." in name:
            raise ValueError("is no revision; give a branch, a tag or a commit's 40 hexadecimal digits")
        return name

    def __str__(self) -> str:
        return f"hub {self.hub} {self.file}@{self.revision}"


class PathSource(_PinnedSource):
    """A GGUF that is there already. It is never copied, changed or removed."""

    path: Text = Field(description="Where it is; relative to the farm file.")

    def __str__(self) -> str:
        return f"path {self.path}"


def _not_split(value: str, name: str) -> str:
    if _SPLIT.search(name):
        raise ValueError("is one part of a split model; join it with llama-gguf-split --merge and give path:")
    return value


def _kind(value: Any) -> str | None:
    """Say which kind of source this is; None if that is not clear."""
    given = [kind for kind in KINDS if (kind in value if isinstance(value, dict) else hasattr(value, kind))]
    return given[0] if len(given) == 1 else None


Source = Annotated[
    Annotated[PackageSource, Tag("package")]
    | Annotated[UrlSource, Tag("url")]
    | Annotated[HubSource, Tag("hub")]
    | Annotated[PathSource, Tag("path")],
    Discriminator(
        _kind,
        custom_error_type="source",
        custom_error_message="says not, or more than once, where the GGUF comes from; "
        "give one of package, url, hub (with file) and path",
    ),
]

AnySource = PackageSource | UrlSource | HubSource | PathSource
"""As `Source`, for type hints only: the discriminator is Pydantic's."""

RemoteSource = UrlSource | HubSource
"""The sources that are downloaded."""

SOURCE: TypeAdapter[AnySource] = TypeAdapter(Source, config=ConfigDict(hide_input_in_errors=True))
"""Reads one source from plain data: `SOURCE.validate_python({"url": ...})`.

Its errors echo no input, since a secret may be in it; inside another model, that one's `hide_input_in_errors` counts.
"""
