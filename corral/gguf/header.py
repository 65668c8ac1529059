"""A GGUF header: metadata and tensor descriptions, of one file or summed over the parts of a split model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from corral.gguf.errors import GgufError

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class SkippedArray:
    """An array too long to be of use here (a vocabulary); only its length was kept."""

    length: int


Value = Scalar | tuple[Scalar, ...] | SkippedArray


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor. `shape` starts with the length of a row; `type` is ggml's name in lower case ("q5_k")."""

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one file announces. `data_start` is where its tensors begin, `data_bytes` the room they need."""

    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_start: int
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """A model's header.

    `source` is the path or URL it was read from, for messages. `file_bytes` counts all parts, headers included.
    """

    source: str
    architecture: str
    name: str
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    file_bytes: int

    @property
    def tensor_bytes(self) -> int:
        """The weights' size: all tensors, without headers and padding."""
        return sum(tensor.bytes for tensor in self.tensors)

    def find(self, key: str) -> Value | None:
        """Return the value of `<architecture>.<key>`, None if it is not there."""
        return self.metadata.get(f"{self.architecture}.{key}")


def assemble(source: str, parts: Sequence[Part], file_bytes: int) -> Header:
    """Make one header of a model's parts, the first of which carries the metadata.

    Raises:
        GgufError: a part is missing, or the file holds no model.
    """
    metadata = parts[0].metadata
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise GgufError(f"{source} does not say its architecture", "give the model's first (or only) .gguf file")
    announced = metadata.get("split.count")
    if isinstance(announced, int) and announced > 1 and announced != len(parts):
        raise GgufError(
            f"{source} is one of {announced} parts, {len(parts)} were found", "put all parts into one place"
        )
    name = metadata.get("general.name")
    return Header(
        source=source,
        architecture=architecture,
        name=name if isinstance(name, str) else "",
        metadata=MappingProxyType(dict(metadata)),
        tensors=tuple(tensor for part in parts for tensor in part.tensors),
        file_bytes=file_bytes,
    )
