"""What an installation says when npm fails, what is locked, and what is taken out of the generated client."""

import json
from pathlib import Path

import pytest

from litellm_embedded.client_types import without_fields
from litellm_embedded.install import ENGINE_FOLDER, GENERATE_FOLDER, compile_step, npm_failure


@pytest.mark.parametrize(
    ("output", "cause", "mend"),
    [
        (
            "npm error code ECONNREFUSED\nnpm error errno ECONNREFUSED\nnpm error FetchError: http://r/x failed\n",
            "ECONNREFUSED FetchError: http://r/x failed",
            "network",
        ),
        (
            "npm ERR! code ENOTFOUND\nnpm ERR! syscall getaddrinfo\nnpm ERR! network request to http://r/x failed\n",
            "ENOTFOUND request to http://r/x failed",
            "network",
        ),
        ("npm error code ENOSPC\nnpm error nospc no space left", "ENOSPC nospc no space left", "free some space"),
        ("npm error code EINTEGRITY\nnpm error sha512-x wanted", "EINTEGRITY sha512-x wanted", "cache"),
        ("npm error code EUSAGE\nnpm error\nnpm error `npm ci` can only install", "EUSAGE", "git"),
        ("", "it gave no reason", "network"),
    ],
)
def test_npms_page_of_errors_becomes_a_cause_and_a_mend(output: str, cause: str, mend: str) -> None:
    told_cause, told_mend = npm_failure(output)
    assert cause in told_cause
    assert mend in told_mend
    assert "\n" not in told_cause


@pytest.mark.parametrize("folder", [ENGINE_FOLDER, GENERATE_FOLDER], ids=lambda folder: folder.name)
def test_every_npm_package_is_locked_by_its_hash_and_tied_to_no_registry(folder: Path) -> None:
    text = (folder / "package-lock.json").read_text(encoding="utf-8")
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert packages
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert '"resolved"' not in text


def test_a_package_with_a_module_named_as_one_of_pythons_is_compiled(tmp_path: Path) -> None:
    """As openai's `types`: compileall, run inside the package, imported it for Python's own and died."""
    for name in ("__init__", "types", "signal"):
        (tmp_path / f"{name}.py").write_text("answer = 42\n")
    step = compile_step("a package", tmp_path, "1.0")
    assert not step.is_done()
    step.do()
    assert step.is_done()
    assert len(list((tmp_path / "__pycache__").glob("*.pyc"))) == 3


GENERATED = '''
from typing import Union
from typing_extensions import TypedDict

class BudgetInclude(TypedDict, total=False):
    """relational arguments"""
    keys: Union[bool, 'FindManyKeys']
    # a comment

    teams: bool


class Empty(TypedDict):
    pass


IntFilter = TypedDict('IntFilter', {'not_in': int}, total=False)


class WithMethod(dict):
    size: int

    def length(self) -> int:
        return len(self)


class FindManyKeys(TypedDict, total=False):
    take: int
'''


def test_the_generated_types_keep_their_names_and_lose_their_fields() -> None:
    before: dict[str, object] = {}
    after: dict[str, object] = {}
    exec(GENERATED, before)  # noqa: S102 - the text above
    exec(without_fields(GENERATED), after)  # noqa: S102
    assert before.keys() == after.keys()
    names = ("BudgetInclude", "Empty", "IntFilter", "FindManyKeys")
    assert {name: len(getattr(after[name], "__annotations__", {})) for name in names} == {
        "BudgetInclude": 0,
        "Empty": 0,
        "IntFilter": 1,
        "FindManyKeys": 0,
    }
    kept = after["WithMethod"]
    assert isinstance(kept, type)
    assert kept(a=1).length() == 1
    made = after["BudgetInclude"]
    assert isinstance(made, type)
    assert made(keys=True) == {"keys": True}
