"""Loading: text, tree, secrets, model, cross-checks; what is wrong is gathered on the way, told at once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from corral.yamlfile import source, wording
from corral.yamlfile.compose import compose
from corral.yamlfile.nodes import Alias, Mapping, Node, Positions, Scalar, Sequence
from corral.yamlfile.problems import KeyPath, Problem, YamlFileErrors, ticked
from corral.yamlfile.secrets import looks_secret, redact, repeated
from corral.yamlfile.shapes import Shapes
from corral.yamlfile.wanted import NUMBERS, wanted

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[M]):
    """A file that is in order.

    Attributes:
        value: the model.
        positions: where each value stands in the file.
        source_text: the file as it was read.
    """

    value: M
    positions: Positions = field(repr=False)
    source_text: str = field(repr=False)


def no_checks(_: BaseModel) -> Iterable[Problem]:
    """Find nothing wrong."""
    return ()


def load(path: Path, model: type[M], checks: Callable[[M], Iterable[Problem]] = no_checks) -> M:
    """Return the model that a YAML file holds.

    Args:
        path: the file; UTF-8, at most 8 MiB.
        model: frozen, with `extra="forbid"`; its validators' messages are written as `what; mend`.
        checks: what the model cannot check by itself, run if it is valid otherwise; yields `Problem.at(path, ...)`.

    Raises:
        YamlFileErrors: all that is wrong with the file.
    """
    return load_with_positions(path, model, checks).value


def loads(text: str, name: str, model: type[M], checks: Callable[[M], Iterable[Problem]] = no_checks) -> M:
    """Return the model that a YAML text holds; `name` stands for the file in messages. Else as `load`."""
    return _loaded(text, name, model, checks).value


def load_with_positions(path: Path, model: type[M], checks: Callable[[M], Iterable[Problem]] = no_checks) -> Loaded[M]:
    """Return the model that a YAML file holds, with the place of each of its values. Else as `load`."""
    return _loaded(source.read(path), str(path), model, checks)


def _loaded(text: str, name: str, model: type[M], checks: Callable[[M], Iterable[Problem]]) -> Loaded[M]:
    text, found = source.check(text)
    if found:
        raise YamlFileErrors(name, found)
    root, found = compose(text)
    if root is None:
        raise YamlFileErrors(name, [_redacted(problem, []) for problem in found])
    positions = Positions(root)
    shapes = _shapes(model)
    values = list(_scalars(root))
    paths = {(scalar.line, scalar.column): path for path, scalar in values} if found else {}
    found = [replace(problem, path=paths.get((problem.line, problem.column), ())) for problem in found]
    secrets = [(path, scalar) for path, scalar in values if looks_secret(path, scalar.data)]
    found += [wording.placed(positions, _secret_problem(path, scalar)) for path, scalar in secrets]
    found += _booleans_for_numbers(shapes, values, positions)
    value: M | None = None
    try:
        value = model.model_validate(root.data)
    except ValidationError as error:
        # What could not be read right is not also of the wrong kind.
        told = {(problem.line, problem.column) for problem in found}
        told |= {problem.defined for problem in found if problem.defined}
        invalid = wording.problems(error, shapes, root.data, positions)
        found += [problem for problem in invalid if not told & {(problem.line, problem.column), problem.defined}]
    if value is not None and not found:
        found += [wording.placed(positions, problem) for problem in checks(value)]
    if value is None or found:
        hidden = repeated((scalar.text for _, scalar in secrets), _texts(found))
        raise YamlFileErrors(name, list(dict.fromkeys(_redacted(problem, hidden) for problem in found)))
    return Loaded(value, positions, text)


@lru_cache(maxsize=32)
def _shapes(model: type[BaseModel]) -> Shapes:
    return Shapes(model)


def _scalars(root: Node) -> Iterator[tuple[KeyPath, Scalar]]:
    """Yield each scalar of a tree with its path, all aliases written out."""
    open_nodes: list[tuple[KeyPath, Node]] = [((), root)]
    while open_nodes:
        path, node = open_nodes.pop()
        if isinstance(node, Alias):
            node = node.target
        if isinstance(node, Mapping):
            open_nodes += [((*path, key), entry.value) for key, entry in node.entries.items()]
        elif isinstance(node, Sequence):
            open_nodes += [((*path, index), item) for index, item in enumerate(node.items)]
        elif isinstance(node, Scalar):
            yield path, node


def _secret_problem(path: KeyPath, scalar: Scalar) -> Problem:
    problem = looks_secret(path, scalar.data)
    if problem is None:
        raise AssertionError("asked for the problem of a value that is no secret")
    return problem


def _booleans_for_numbers(
    shapes: Shapes, values: list[tuple[KeyPath, Scalar]], positions: Positions
) -> Iterator[Problem]:
    """Yield the problem of each `yes` that stands for a number: Pydantic would take it for 1."""
    for path, scalar in values:
        if not isinstance(scalar.data, bool):
            continue
        members = shapes.at(path)
        if members and all(member["type"] in NUMBERS for member in members):
            what = f"{ticked(scalar.text)} is no number but means {str(scalar.data).lower()}"
            yield wording.placed(positions, Problem.at(path, what, f"write {wanted(shapes, members)}"))


def _texts(problems: list[Problem]) -> Iterator[str]:
    for problem in problems:
        yield from (problem.what, problem.mend, *(step for step in problem.path if isinstance(step, str)))


def _redacted(problem: Problem, secrets: list[str]) -> Problem:
    """Return a problem that quotes none of the file's secrets."""

    def hide(text: Any) -> Any:
        return redact(text, secrets) if isinstance(text, str) else text

    return replace(
        problem, path=tuple(hide(step) for step in problem.path), what=hide(problem.what), mend=hide(problem.mend)
    )
