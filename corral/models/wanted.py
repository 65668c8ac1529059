"""The models that a farm wants: read from its farm file, or the packaged ones where there is none."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from corral.models.catalogue import BY_SOURCE
from corral.models.errors import ModelError
from corral.models.records import Files
from corral.models.sources import SOURCE, AnySource, PackageSource, PathSource

DEFAULT_FILE = Path("corral.yaml")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
    """Return the source of each model of the farm file, by name.

    Args:
        farm_file: the farm file; None for `corral.yaml` here, and where that is missing for the packaged models.

    Raises:
        ModelError: the file cannot be read, or a source in it is wrong; exit code 2.
    """
    path = farm_file or DEFAULT_FILE
    if farm_file is None and not path.exists():
        return {model.name: PackageSource(package=source) for source, model in BY_SOURCE.items()}
    models = _mapping(_parsed(path), "models", path)
    return {str(name): _source(str(name), _mapping(models, name, path), path) for name in models}


def _parsed(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})", "name the farm file with --file") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise _bad(path, f"is no YAML{where}", "mend that line") from error


def _mapping(document: Any, key: Any, path: Path) -> dict[Any, Any]:
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, dict):
        raise _bad(path, f"has no `{key}:` with keys below it", "see docs/models.md for an example")
    return value


def _source(name: str, model: dict[Any, Any], path: Path) -> AnySource:
    if not is_name(name):
        raise bad_name(name)
    try:
        return SOURCE.validate_python(model.get("source"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(["models", name, "source", *(str(step) for step in first["loc"][1:])])
        cause, _, mend = first["msg"].removeprefix("Value error, ").partition("; ")
        raise _bad(path, f"{where}: {cause}", mend or "see docs/models.md") from error


def _bad(path: Path, cause: str, mend: str) -> ModelError:
    return ModelError(f"{path}: {cause}", mend, exit_code=2)
