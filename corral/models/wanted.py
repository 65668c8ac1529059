"""The models that a farm wants: read from its farm file, or the packaged ones where there is none."""

import re
from dataclasses import dataclass
from pathlib import Path

from corral.farm import load_farm
from corral.models.catalogue import BY_SOURCE
from corral.models.errors import ModelError
from corral.models.records import Files
from corral.models.sources import AnySource, PackageSource, PathSource
from corral.yamlfile import YamlFileErrors

DEFAULT_FILE = Path("corral.yaml")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class FarmFileError(ModelError):
    """A farm file that cannot be used; its text has one line for each thing that is wrong with it."""

    def __init__(self, errors: YamlFileErrors) -> None:
        super().__init__(errors.cause, errors.mend, exit_code=errors.exit_code)
        self._lines = errors.lines()

    def __str__(self) -> str:
        return "\n".join(self._lines)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model to be there. A `path` source is relative to `base`, the folder of the farm file."""

    name: str
    source: AnySource
    base: Path = Path()

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise bad_name(self.name)

    def location(self, into: Path) -> Path:
        """Return where its GGUF is, or will be once it is pulled into a folder: NAME.gguf for what is downloaded.

        Raises:
            ModelError: it lies in a package that is not installed.
        """
        match self.source:
            case PackageSource():
                return self.source.model.location(into)
            case PathSource():
                return (self.base / self.source.path).absolute()
            case _:
                return Files(into, self.name).target


def is_name(text: str) -> bool:
    """Return whether a text can name a model: it becomes a file's name, so it has no slash and starts with no dot."""
    return bool(_NAME.fullmatch(text))


def bad_name(name: str) -> ModelError:
    """Return the refusal of a model's name."""
    return ModelError(
        f"{name!r} cannot name a model", "use letters, digits, dots, dashes and underscores, 100 at most", exit_code=2
    )


def wanted_models(farm_file: Path | None) -> dict[str, AnySource]:
    """Return the source of each model of the farm file, by name; an image model has none and is left out.

    Args:
        farm_file: the farm file; None for `corral.yaml` here, and where that is missing for the packaged models.

    Raises:
        FarmFileError: all that is wrong with the file, a line each; exit code 2.
    """
    path = farm_file or DEFAULT_FILE
    if farm_file is None and not path.exists():
        return {model.name: PackageSource(package=source) for source, model in BY_SOURCE.items()}
    try:
        farm = load_farm(path).value
    except YamlFileErrors as errors:
        raise FarmFileError(errors) from errors
    return {name: model.source for name, model in farm.models.items() if model.source is not None}
