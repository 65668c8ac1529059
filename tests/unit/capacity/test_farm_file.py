"""Limits that were found are written into the farm file, and nothing else in it changes."""

import difflib
from pathlib import Path

import pytest

from corral.capacity.farm_file import Change, changes_of, with_changes
from corral.errors import CorralError
from corral.farm import load_farm

FARMS = Path(__file__).parents[3] / "farms"
SUGGESTED = {"rpm": 40, "parallel": 9, "max_queue": 7}


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def written(path: Path, model: str) -> tuple[list[str], Path]:
    before, after = with_changes(path, changes_of({model: SUGGESTED}))
    path.write_text(after)
    return changed_lines(before, after), path


@pytest.mark.parametrize("name", ["laptop", "two-hosts", "reference"])
def test_every_example_takes_the_limits_of_every_model(name: str, tmp_path: Path) -> None:
    path = tmp_path / "corral.yaml"
    path.write_text((FARMS / f"{name}.yaml").read_text())
    models = [model for model in load_farm(path).value.models if load_farm(path).value.models[model].mode != "image"]
    comments = path.read_text().count("#")
    everything = changes_of(dict.fromkeys(models, SUGGESTED))
    path.write_text(with_changes(path, everything)[1])
    farm = load_farm(path).value
    for model in models:
        limits = farm.models[model].limits
        assert limits is not None
        assert (limits.rpm, limits.parallel, farm.models[model].serving.max_queue) == (40, 9, 7)
    assert path.read_text().count("#") == comments
    assert with_changes(path, everything)[1] == path.read_text()  # twice is once


BLOCK = """\
hosts:
  here: {runtime: processes, gpus: detect}
models:
  chat: # the only one
    source: {package: smollm2-135m-instruct}
    limits:
      rpm: 5 # found by hand
    # a remark at the end

  embed: {mode: embedding, source: {package: all-minilm-l6-v2}}
servers:
  - {model: chat, host: here, ports: 8080}
  - {model: embed, host: here, ports: 8090}
"""


def test_what_stands_beside_the_values_stays(tmp_path: Path) -> None:
    path = tmp_path / "corral.yaml"
    path.write_text(BLOCK)
    lines, _ = written(path, "chat")
    assert lines == [
        "-       rpm: 5 # found by hand",
        "+       rpm: 40 # found by hand",
        "+       parallel: 9",
        "+     serving: {max_queue: 7}",
    ]
    assert "# a remark at the end" in path.read_text()
    lines, _ = written(path, "embed")
    (line,) = (line for line in lines if line[0] == "+")
    assert line.endswith("{package: all-minilm-l6-v2}, limits: {rpm: 40, parallel: 9}, serving: {max_queue: 7}}")


def test_a_value_behind_an_anchor_is_left_and_the_person_told(tmp_path: Path) -> None:
    path = tmp_path / "corral.yaml"
    shared = BLOCK.replace("    limits:\n      rpm: 5 # found by hand\n", "    limits: &few {rpm: 5}\n")
    path.write_text(shared.replace("all-minilm-l6-v2}}", "all-minilm-l6-v2}, limits: *few}"))
    with pytest.raises(CorralError, match=r"by hand: models\.chat\.limits\.rpm: 40"):
        with_changes(path, [Change(("models", "chat", "limits", "rpm"), 40)])


def test_what_another_model_would_inherit_is_left_too(tmp_path: Path) -> None:
    path = tmp_path / "corral.yaml"
    path.write_text((FARMS / "reference.yaml").read_text())
    with pytest.raises(CorralError, match=r"by hand: models\.llama\.serving\.max_queue: 7"):
        with_changes(path, [Change(("models", "llama", "serving", "max_queue"), 7)])
