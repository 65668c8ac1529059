"""Runbooks: built alike, followed, and naming only what there is."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from corral.cli import app
from corral.paths import CHECKOUT
from support.promql import spoken

FOLDER = CHECKOUT / "docs" / "runbooks"
MONITORING = CHECKOUT / "monitoring"
PAGES = sorted(FOLDER.glob("*.md"))
OF_ALERTS = [page for page in PAGES if page.stem != "README"]
SECTIONS = ["## Look", "## Mend", "## Followed", "## Drill"]
NOT_FOLLOWED = "*(not followed"
_PROMQL = re.compile(
    r"(up|sum|max|min|topk|increase|rate)\b *[({=b]|(gpu|gen_ai|litellm|corral|pg|node)_\w+(\W|$)|corral:"
)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "prometheus" / "rules" / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def code_of(page: Path) -> Iterator[str]:
    """Give each line of a page's code blocks, and each span of code."""
    text = page.read_text()
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def fault_of(line: str) -> str | None:
    """Return what `make` or `corral` would not know of a line of shell; None where it knows all, or is not called."""
    if not re.match(r"([A-Z_]+=\S* )*(make|corral) ", line):
        return None
    words = shlex.split(re.split(r"[|;&]", line)[0], comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    if words[0] == "make":
        makefile = (CHECKOUT / "Makefile").read_text()
        recipe = re.search(rf"^{re.escape(words[1])}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        if recipe is None:
            return f"make {words[1]}"
        verb = re.search(r"\$\(CORRAL\) ([a-z-]+)", recipe[1])
        given = dict(word.split("=", 1) for word in words[2:])
        return _fault_of_command([verb[1], *shlex.split(given.get("ARGS", ""))]) if verb else None
    return _fault_of_command(words[1:])


def _fault_of_command(words: list[str]) -> str | None:
    command: Any = get_command(app)
    for place, word in enumerate(words):
        if word.startswith("-"):
            options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
            if word not in options:
                return f"corral {' '.join(words[: place + 1])}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"corral {' '.join(words[: place + 1])}"
            command = command.commands[word]
    return None


@pytest.mark.parametrize("page", OF_ALERTS, ids=lambda page: page.stem)
def test_each_page_has_the_same_parts(page: Path) -> None:
    text, rule = page.read_text(), rules()[page.stem]
    assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    severity = next(line for line in text.splitlines() if line.startswith("Severity "))
    assert severity.startswith(f"Severity {rule['labels']['severity']}, ")
    if "for" in rule:
        assert f", after {rule['for']}." in severity


@pytest.mark.parametrize("page", OF_ALERTS, ids=lambda page: page.stem)
def test_each_page_says_when_it_was_followed_and_what_was_not(page: Path) -> None:
    text = page.read_text()
    said = text.partition("## Followed\n\n")[2].partition("\n\n")[0]
    found = re.fullmatch(r"\d{4}-\d\d-\d\d, [^\n]+\. (All steps|All steps but those marked|No step)\.", said)
    assert found, said
    assert (NOT_FOLLOWED in text) == (found[1] != "All steps")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_that_a_page_names_is_there(page: Path) -> None:
    assert [fault for line in code_of(page) if (fault := fault_of(line))] == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("make statu", "make statu"),
        ('make keys ARGS="shwo ALIAS"', "corral keys shwo"),
        ("ALERT_WEBHOOK_URL=... make monitoring ARGS=--now", "corral monitoring --now"),
        ("corral top --twice | cat", "corral top --twice"),
        ('make logs PART=NAME ARGS="-n 100"', None),
        ("docker compose ps", None),
    ],
)
def test_a_command_that_is_not_there_is_found(line: str, fault: str | None) -> None:
    assert fault_of(line) == fault


def test_each_metric_that_a_page_names_is_one_of_a_rule_a_dashboard_or_the_catalogue() -> None:
    sources = [
        *(MONITORING / "prometheus" / "rules").glob("*.yml"),
        *(CHECKOUT / "farms" / "rendered").rglob("farm.yml"),
        *(MONITORING / "grafana" / "dashboards").glob("*.json"),
        CHECKOUT / "docs" / "monitoring-catalogue.md",
        CHECKOUT / "docs" / "gpu-server" / "metrics.md",
        CHECKOUT / "docs" / "gpu-server" / "states.md",  # causes look like metrics
    ]
    known = set(re.findall(r"[A-Za-z_:][\w:]*", "\n".join(file.read_text() for file in sources)))
    named = {}
    for page in PAGES:
        for span in code_of(page):
            if _PROMQL.match(span):
                named |= {metric: page.stem for metric in spoken(span).selectors if metric not in known}
    assert named == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_or_file_that_a_page_links_to_is_there(page: Path) -> None:
    assert [link for link in _LINK.findall(page.read_text()) if not (FOLDER / link).exists()] == []
