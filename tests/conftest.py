"""Settings for every test."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

# LiteLLM, imported for its hooks, would ask the network for prices. No test waits on a look-up.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

# Kinds of which two at a time would be in each other's way: their farms want the default ports.
ALONE = ("e2e", "compose")

# What a machine may lack without anything being wrong with it; a tool is not among these.
ALLOWED_TO_SKIP = ("needs root",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side, keep together a file's, which share servers, and all that start a whole farm."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent)
        group = folder.parts[0] if folder.parts[0] in ALONE else str(folder)
        item.add_marker(pytest.mark.xdist_group(group))


def fail_what_skips(report: Any) -> None:
    """Under CI, where everything is installed, a test that skips has found something missing."""
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get("CI") != "true":
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith(ALLOWED_TO_SKIP):
        report.outcome = "failed"
        report.longrepr = f"skipped, and with CI=true nothing may be missing: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_what_skips(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_what_skips(report)
    return report
