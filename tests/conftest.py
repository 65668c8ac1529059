"""Settings for every test."""

import os
from collections.abc import Generator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# LiteLLM, imported for its hooks, would ask the network for prices. No test waits on a look-up.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

# Kinds of which two at a time would be in each other's way: their farms want the default ports.
ALONE = ("e2e", "compose")

# Folders whose files share servers that take long to start.
SHARING = ("tests/integration/litellm/fast_path/", "tests/integration/litellm/two_workers/")

# What a machine may lack without anything being wrong with it; a tool is not among these.
ALLOWED_TO_SKIP = ("needs root",)


class ByFile(LoadScopeScheduling):
    """Keeps together the tests of a file or folder, which share servers, and all that start a whole farm."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        together = (*(f"tests/{kind}/" for kind in ALONE), *SHARING)
        return next((folder for folder in together if file.startswith(folder)), file)


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Say which worker gets which tests."""
    return ByFile(config, log)


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
