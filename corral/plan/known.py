"""What is known of a farm's models before anything is reckoned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from corral.errors import CorralError
from corral.gguf.header import Header


@dataclass(frozen=True)
class Known:
    """Headers of models by name, and why there is none of the others.

    Attributes:
        unknown: what went wrong, and the mend, of each model without a header.
        projectors: bytes of the projectors' files.
        files: models that lie on this machine.
        origins: where each header came from, for people.
    """

    headers: Mapping[str, Header]
    unknown: Mapping[str, CorralError] = field(default_factory=dict)
    projectors: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
