"""The contract with the LiteLLM that is installed: what moves in an upgrade shows here, by name."""

import importlib.metadata
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from corral_fast_path import guard
from corral_fast_path.guard import Internal
from corral_fast_path.plugin import FastPath
from support.hooks import HOOKS


def test_this_litellm_is_as_the_fast_path_uses_it() -> None:
    """In a process of its own: LiteLLM's proxy, once imported, changes what other hooks do."""
    look = "from corral_fast_path import guard; print(*guard.differences(), sep='\\n', end='')"
    found = subprocess.run(
        [sys.executable, "-c", look],
        env={**os.environ, "PYTHONPATH": str(HOOKS)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (found.returncode, found.stdout) == (0, ""), found.stderr


def test_the_pinned_litellm_is_one_that_was_tried() -> None:
    assert importlib.metadata.version("litellm") in guard.TRIED


@pytest.mark.parametrize(
    ("internal", "said"),
    [
        (Internal("litellm.router", "Router.no_such_function"), "litellm.router.Router.no_such_function is gone"),
        (Internal("litellm.no_such_module", "f"), "litellm.no_such_module.f is gone"),
        (Internal("litellm.router", "Router.get_model_list", ("colour",), 1), "unexpected keyword argument 'colour'"),
        (Internal("litellm.router", "Router._deployment_slot", ("deployment",), 1), "missing a required argument"),
    ],
)
def test_what_differs_is_named(internal: Internal, said: str) -> None:
    assert said in str(internal.difference())


class App:
    def __init__(self) -> None:
        self.router = SimpleNamespace(routes=[])


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> App:
    app = App()
    monkeypatch.setitem(sys.modules, "litellm.proxy.proxy_server", SimpleNamespace(app=app))
    monkeypatch.delenv("CORRAL_FAST_PATH", raising=False)
    monkeypatch.setattr("corral_fast_path.plugin.install", lambda app: app.router.routes.append("ours"))
    return app


@pytest.mark.parametrize(
    ("switch", "there"), [(None, True), ("on", True), ("off", False), ("OFF", False), ("no", False)]
)
def test_the_switch(app: App, monkeypatch: pytest.MonkeyPatch, switch: str | None, there: bool) -> None:
    monkeypatch.setattr(guard, "differences", lambda: iter(()))
    if switch is not None:
        monkeypatch.setenv("CORRAL_FAST_PATH", switch)
    FastPath().load()
    assert (app.router.routes == ["ours"]) == there


def test_where_litellm_differs_its_own_routes_stay_and_one_line_says_why(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "differences", lambda: iter(("litellm.router.f is gone", "litellm.g is gone")))
    with caplog.at_level(logging.ERROR, "corral.fast_path"):
        FastPath().load()
    assert app.router.routes == []
    (record,) = caplog.records
    assert "litellm.router.f is gone; litellm.g is gone" in record.getMessage()


def test_a_switch_that_is_neither_on_nor_off_is_named(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CORRAL_FAST_PATH", "maybe")
    FastPath().load()
    assert "CORRAL_FAST_PATH is 'maybe', and must be on or off" in caplog.text
