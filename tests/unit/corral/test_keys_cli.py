"""`corral keys` as a person and as a script see it."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from corral.keys import cli
from corral.keys.client import KeyClient
from support.fake_litellm_keys import MASTER_KEY, FakeLiteLLMKeys

Keys = Callable[..., Result]


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> FakeLiteLLMKeys:
    fake = FakeLiteLLMKeys()
    monkeypatch.setattr(cli, "connect", lambda access: KeyClient(access, transport=httpx.MockTransport(fake)))
    monkeypatch.setenv("CORRAL_ENDPOINT", "http://gate:4000/v1")
    monkeypatch.setenv("LITELLM_MASTER_KEY", MASTER_KEY)
    return fake


@pytest.fixture
def keys(litellm: FakeLiteLLMKeys) -> Keys:
    def run(*arguments: str, stdin: str = "") -> Result:
        result = CliRunner().invoke(cli.app, list(arguments), input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def refused(result: Result, exit_code: int = 2) -> str:
    """The one line on stderr of a command that failed."""
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip()


def test_create_prints_json_with_the_key_first(keys: Keys) -> None:
    options = "--models chat,embed --rpm 60 --tpm 10_000 --parallel 2 --budget $2.50 --budget-reset 7d --expires 30d"
    result = keys("create", *options.split(), "--alias", "my app", "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert next(iter(data)) == "key"
    assert data["key"].startswith("sk-")
    limits = {name: data[name] for name in ("alias", "models", "rpm", "tpm", "parallel", "budget", "budget_reset")}
    assert limits == {
        "alias": "my app",
        "models": ["chat", "embed"],
        "rpm": 60,
        "tpm": 10_000,
        "parallel": 2,
        "budget": 2.5,
        "budget_reset": "7d",
    }
    assert data["state"] == "active"
    assert "T" in data["expires"]


def test_create_shows_the_key_once_and_says_so(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    result = keys("create", "--models", "chat", "--alias", "app")
    lines = result.stdout.rstrip().splitlines()
    assert lines[-1].startswith("sk-")
    assert "shown only now" in lines[-2]
    assert result.stdout.count(lines[-1]) == 1
    for command in (("list",), ("show", "app"), ("list", "--json"), ("show", "app", "--json")):
        assert lines[-1] not in keys(*command).stdout


def test_create_tells_how_often_the_budget_starts_anew(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    assert "every 7d" in keys("create", "--budget", "1", "--budget-reset", "7d").stdout
    assert "next" not in keys("create", "--budget", "1", "--budget-reset", "7d").stdout


def test_without_models_a_key_may_use_all(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    assert json.loads(keys("create", "--json").stdout)["models"] == []
    assert " all " in keys("list").stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--rpm 0", "--rpm '0' is no whole number from 1 to"),
        ("--rpm -5", "--rpm '-5' is no whole number"),
        ("--tpm 1.5", "--tpm '1.5' is no whole number"),
        ("--parallel 99999999999999999999999", "--parallel '99999999999999999999999' is no whole number"),
        ("--tpm ²", "--tpm '²' is no whole number"),
        ("--budget -1", "--budget '-1' is no amount of dollars"),
        ("--budget nan", "--budget 'nan' is no amount"),
        ("--budget inf", "--budget 'inf' is no amount"),
        ("--budget ten", "--budget 'ten' is no amount"),
        ("--budget-reset 7d", "--budget-reset without a budget; give --budget"),
        ("--budget 1 --budget-reset weekly", "--budget-reset 'weekly' is no duration; give a number and s, m, h, d, w"),
        ("--expires 30", "--expires '30' is no duration"),
        ("--expires 0d", "--expires '0d' is no duration"),
        ("--expires 1y", "--expires '1y' is no duration"),
        ("--expires 999999999d", "--expires '999999999d' is no duration"),
        ("--alias sk-app", "--alias 'sk-app' does not serve as a name"),
        ("--alias a/b", "--alias 'a/b' does not serve as a name"),
        ("--alias=", "--alias '' does not serve as a name"),
        ("--models chat,,embed", "--models 'chat,,embed' has an empty name"),
        ("--models=", "--models '' has an empty name"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_is_sent(
    keys: Keys, litellm: FakeLiteLLMKeys, options: str, says: str
) -> None:
    assert refused(keys("create", *options.split())).startswith(says)
    assert litellm.requests == []


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ("chatt", "no model 'chatt'; did you mean 'chat'? there are: chat, embed"),
        ("chat,whisper", "no model 'whisper'; there are: chat, embed"),
    ],
)
def test_an_unknown_model_is_refused_with_the_nearest_name(
    keys: Keys, litellm: FakeLiteLLMKeys, models: str, says: str
) -> None:
    assert refused(keys("create", "--models", models)) == says
    assert litellm.rows == []


def test_a_taken_alias_is_refused(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    litellm.add(key_alias="app")
    assert refused(keys("create", "--alias", "app")).startswith("the alias 'app' is taken; choose another --alias")
    assert "/key/generate" not in litellm.paths()


def test_list_shows_money_limits_expiry_and_state(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    litellm.add(key_alias="old", models=["chat"], expires="2020-01-01T00:00:00Z")
    litellm.add(key_alias="busy", models=["chat", "embed"], spend=1.234, max_budget=5, rpm_limit=6000)
    litellm.add(spend=0.00042, blocked=True)
    header, unnamed, busy, old = keys("list").stdout.splitlines()
    assert header.split() == ["key", "models", "spend", "rpm", "tpm", "parallel", "expires", "state"]
    assert unnamed.split() == ["sk-...test", "all", "$0.00042", "-", "-", "-", "never", "blocked"]
    assert "chat, embed  $1.23 of $5.00 (25%)  6,000" in busy
    assert busy.rstrip().endswith("active")
    assert "2020-01-01" in old
    assert old.rstrip().endswith("expired")


def test_an_empty_list_says_how_to_make_a_key(keys: Keys) -> None:
    assert keys("list").stdout == "No keys yet. Make one: corral keys create --models chat\n"
    assert json.loads(keys("list", "--json").stdout) == []


def test_list_as_json_has_every_key(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    for number in range(120):
        litellm.add(key_alias=f"app-{number}", spend=number / 10)
    listed = json.loads(keys("list", "--json").stdout)
    assert len(listed) == 120
    assert listed[0] | {"id": ""} == {
        "alias": "app-119",
        "models": [],
        "rpm": None,
        "tpm": None,
        "parallel": None,
        "spend": 11.9,
        "budget": None,
        "budget_reset": None,
        "budget_resets_at": None,
        "expires": None,
        "created": "2026-11-21T10:00:00+00:00",
        "traces": None,
        "state": "active",
        "hint": "sk-...test",
        "id": "",
    }


def test_names_that_look_like_markup_are_shown_as_they_are(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    litellm.add(key_alias="[red]app[/red]")
    assert "[red]app[/red]" in keys("list").stdout
    assert "[red]app[/red]" in keys("show", "[red]app[/red]").stdout


def test_show_reads_the_key_from_stdin_and_never_prints_it(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    key = litellm.add(key_alias="app", max_budget=10, budget_duration="7d", budget_reset_at="2100-01-04T00:00:00Z")
    result = keys("show", "-", stdin=f"{key}\n")
    assert result.exit_code == 0
    assert "app" in result.stdout
    assert "every 7d, next 2100-01-04" in result.stdout
    assert key not in result.stdout


def test_show_of_an_unknown_key_is_an_error_that_does_not_repeat_it(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    assert (
        refused(keys("show", "nobody"))
        == "no key 'nobody', or it was revoked; see the keys there are: corral keys list"
    )
    assert "sk-...cret'" in refused(keys("show", "sk-very-secret"))


def test_an_empty_stdin_is_refused(keys: Keys) -> None:
    assert refused(keys("show", "-")).startswith("no key is named")


def test_two_keys_on_stdin_are_too_many_to_show(keys: Keys) -> None:
    assert refused(keys("show", "-", stdin="one two")).startswith("2 keys are named")


def test_revoke_takes_keys_and_aliases_once_each(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    key = litellm.add(key_alias="one")
    litellm.add(key_alias="two")
    litellm.add(key_alias="three")
    result = keys("revoke", "two", "one", "-", "--yes", stdin=key)
    assert result.stdout == "Revoked two, one.\n"
    assert [row["key_alias"] for row in litellm.rows] == ["three"]
    assert json.loads(keys("revoke", "three", "--yes", "--json").stdout)["revoked"][0]["alias"] == "three"


def test_revoke_is_all_or_nothing(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    litellm.add(key_alias="one")
    assert refused(keys("revoke", "one", "nobody", "--yes")).startswith("no key 'nobody'")
    assert len(litellm.rows) == 1


def test_revoke_without_anybody_to_ask_needs_yes(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    litellm.add(key_alias="one")
    assert refused(keys("revoke", "one")) == "nobody is there to confirm; add --yes"
    assert len(litellm.rows) == 1


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1)])
def test_revoke_asks_a_person_first(
    keys: Keys, litellm: FakeLiteLLMKeys, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    monkeypatch.setattr(cli, "somebody_is_there", lambda: True)
    litellm.add(key_alias="one")
    result = keys("revoke", "one", stdin=answer)
    assert "Revoke one?" in result.stderr
    assert len(litellm.rows) == left
    assert (result.exit_code == 0) == (left == 0)


def test_a_gate_that_is_down_is_exit_code_1(keys: Keys, litellm: FakeLiteLLMKeys) -> None:
    litellm.broken = httpx.ConnectError("Connection refused")
    assert refused(keys("list"), exit_code=1).startswith("no gate answers at http://gate:4000 (Connection refused)")


def test_no_farm_is_exit_code_1(keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CORRAL_ENDPOINT")
    line = refused(keys("list", "--state", str(tmp_path)), exit_code=1)
    assert line.startswith(f"no farm runs in {tmp_path}; start it with `make up`")
