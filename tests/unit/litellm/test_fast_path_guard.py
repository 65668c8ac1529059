"""The contract with the LiteLLM that is installed: what moves in an upgrade shows here, by name.

The fast path's shortcuts answer what LiteLLM's own functions do, and know again only keys that change nothing.
"""

import importlib.metadata
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corral_fast_path import guard
from corral_fast_path.guard import Internal
from corral_fast_path.plugin import FastPath
from support.hooks import HOOKS

SUPPORT = Path(__file__).parents[2]
KNOWN = ("plain", "spent more", "expires later", "other parameters")


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What a process of its own says: LiteLLM's proxy, once imported, changes what other hooks do."""
    ran = subprocess.run(
        [sys.executable, "-m", "support.shortcut_answers"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HOOKS), str(SUPPORT)]),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "CORRAL_FAST_PATH": "off",  # nothing is in place: both can be asked
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def test_this_litellm_is_as_the_fast_path_uses_it(answers: dict[str, Any]) -> None:
    assert answers["differences"] == []


@pytest.mark.parametrize(
    "subject",
    [
        "savings",
        "row_sizes",
        "row_json",
        "provider_names",
        "key_objects",
        "management_routes",
        "costs_of_answers",
        "entries_of_requests",
        "tool_names",
        "limits_of_a_model",
        "internal_calls",
        "payloads_of_listeners",
        "cached_values",
        "queries_of_rows",
        "statuses_of_rows",
        "guardrails_of_rows",
        "guardrails_of_deployments",
        "shown_deployments",
        "errors_of_answers",
        "known_callbacks",
        "features_of_routes",
        "routes_of_requests",
        "targets_of_calls",
        "counted_uses",
        "copies_of_rows",
        "json_of_rows",
        "stored_prompts",
        "reasons_of_free_answers",
        "shadow_evaluations",
    ],
)
def test_the_answers_are_litellms(answers: dict[str, Any], subject: str) -> None:
    pairs = answers["same"][subject]
    assert len(pairs) >= 4
    assert [theirs for theirs, _ in pairs] == [ours for _, ours in pairs]


def test_only_a_key_of_which_nothing_else_counts_is_known_again(answers: dict[str, Any]) -> None:
    known = answers["known"]
    assert {name for name, yes in known.items() if yes} == set(KNOWN)
    assert len(known) > len(KNOWN)


def test_what_litellm_has_shown_is_taken_over(answers: dict[str, Any]) -> None:
    assert answers["taken_over"] == {"costs": ["free", "plain", "with a price of cached tokens"], "entries": [True]}


def test_only_who_does_nothing_with_answers_is_not_told_of_them(answers: dict[str, Any]) -> None:
    assert {name for name, told in answers["told"].items() if not told} == {"deaf"}
    assert len(answers["told"]) > 1


def test_each_shortcut_is_put_in_the_place_of_what_it_stands_for(answers: dict[str, Any]) -> None:
    assert answers["put"]["left"] == []
    without_original = {"litellm:_known_custom_logger_compatible_callbacks", "prisma.builder:indent"}
    of_writer = {f"litellm.proxy.db.db_spend_update_writer:{name}" for name in ("copy.deepcopy", "json.loads")}
    of_target = {"litellm._internal_context:service_target"}
    assert without_original | of_writer | of_target <= set(answers["put"]["taken"])


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
