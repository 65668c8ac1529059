"""Whatever a file holds, it is loaded or refused with places in it; a mistake put in anywhere is found on its line."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.yamlfile import YamlFileErrors, loads
from support.yaml_models import GOOD, Farm

PIECES = st.sampled_from(
    ["a", "boxes", "port", ": ", ":", "- ", "\n", "\n  ", "\n\t", "[", "]", "{", "}", ",", "&a ", "*a", "<<: *a",
     "!x ", "!!int ", '"', "'", "|", ">", "#", " ", "1", "010", "1:30", "0x_", "yes", "~", "---\n",
     "...\n", "%YAML 1.1\n", "? ",
     "@", "\\", "\r", "é", "sk-12345", ".inf", ".nan", "=", "1e999", "2026-13-45"]
)  # fmt: skip
LINES = GOOD.splitlines()


def refused(text: str) -> list[Any]:
    """Return the problems of a text; anything but YamlFileErrors fails the test."""
    try:
        loads(text, "farm.yaml", Farm)
    except YamlFileErrors as errors:
        return list(errors.problems)
    return []


def assert_placed(text: str) -> None:
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for problem in refused(text):
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.what
        assert str(problem).isprintable()


POISON = st.sampled_from(["\x00", "\x85", "\ufeff", "\ud800", "\u2028"])


@given(st.lists(PIECES, max_size=40).map("".join) | st.lists(PIECES | POISON, max_size=6).map("".join) | st.text())
@settings(deadline=None)
def test_any_text_is_loaded_or_refused_with_places_in_it(text: str) -> None:
    assert_placed(text)


@given(st.data())
@settings(deadline=None)
def test_any_change_to_a_good_file_is_loaded_or_refused_with_places_in_it(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(begin + 8, len(text))))
        text = text[:begin] + data.draw(PIECES | st.text(max_size=3)) + text[end:]
    assert_placed(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
@settings(deadline=None)
def test_any_data_written_as_yaml_is_refused_with_places_in_it(value: Any) -> None:
    assert_placed(yaml.safe_dump({"boxes": value, "models": value}, allow_unicode=True))


Path = tuple[str | int, ...]


def paths(data: Any, wanted: type, path: Path = ()) -> list[Path]:
    """Return the paths of all values of a type."""
    found = [path] if isinstance(data, wanted) else []
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return found + [deeper for key, value in items for deeper in paths(value, wanted, (*path, key))]


DATA = yaml.safe_load(GOOD)
CLOSED = [path for path in paths(DATA, dict) if path != ("models",) and path[-1:] != ("labels",)]
NEEDED = [path for path in paths(DATA, (str, int))  # type: ignore[arg-type]
          if path[-1] in {"address", "port", "kind", "path", "repository", "name"}]  # fmt: skip
NUMBERS = paths(DATA, int)


def at(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def written(flow: bool, change: Any) -> tuple[str, Any]:
    data = yaml.safe_load(GOOD)
    change(data)
    return yaml.safe_dump(data, default_flow_style=flow, sort_keys=False, width=1000 if flow else 80), data


def line_of(text: str, marker: str) -> int:
    return next(number for number, line in enumerate(text.split("\n"), 1) if marker in line)


@given(st.sampled_from(CLOSED), st.booleans(), st.from_regex(r"zq[a-z]{3,8}", fullmatch=True))
@settings(deadline=None)
def test_an_unknown_key_anywhere_is_told_at_its_line(path: Path, flow: bool, key: str) -> None:
    text, _ = written(flow, lambda data: at(data, path).update({key: 1}))
    [problem] = refused(text)
    assert (problem.path, problem.line) == ((*path, key), line_of(text, key))
    assert text.split("\n")[problem.line - 1][problem.column - 1 :].startswith(key)
    assert "unknown key" in problem.what


@pytest.mark.parametrize("path", NEEDED, ids=str)
def test_a_missing_key_anywhere_is_told_where_it_should_be(path: Path) -> None:
    def take_out(data: Any) -> None:
        parent = at(data, path[:-1])
        del parent[path[-1]]
        parent["zqzqzq"] = 1

    text, _ = written(False, take_out)
    told = [problem for problem in refused(text) if "missing" in problem.what]
    assert len(told) == 1
    begins = line_of(text, "zqzqzq")
    # The mapping begins at its first key, which is above the marker at the same column.
    assert told[0].line <= begins
    lines = text.split("\n")[told[0].line - 1 : begins]
    assert all(line[: told[0].column - 1].strip(" -") == "" for line in lines)
    assert path[-1] in str(told[0])


@given(st.sampled_from(NUMBERS), st.booleans(), st.sampled_from(["zqword", {"zq": "zq"}, "zq 1.5"]))
@settings(deadline=None)
def test_a_value_of_the_wrong_kind_anywhere_is_told_at_its_line(path: Path, flow: bool, value: Any) -> None:
    def put_in(data: Any) -> None:
        at(data, path[:-1])[path[-1]] = value

    text, _ = written(flow, put_in)
    [problem] = refused(text)
    assert (problem.path, problem.line) == (path, line_of(text, "zq"))
    assert "whole number" in problem.what
