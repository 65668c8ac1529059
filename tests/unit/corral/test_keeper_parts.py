"""The keeper's small parts: back-off, health answers, the state file, the parts' environments."""

import os
import stat
from pathlib import Path

import psutil
import pytest

from corral import farmstate, local_farm, secrets
from corral.farm import load_farm
from corral.farmstate import Failure, FarmState, PartState
from corral.keeper.backoff import FAILED_RETRY_S, LONGEST_S, Backoff
from corral.keeper.last_words import telling_line
from corral.keeper.probe import Answer, understand
from corral.machine import Machine
from corral.parts import Part, parts
from corral.paths import DEFAULT_FARM_FILE, StateDir


def test_pauses_double_up_to_a_limit_then_one_try_a_minute() -> None:
    backoff, delays = Backoff(), []
    for _ in range(4):
        backoff.died(ran_s=1)
        delays.append(backoff.delay_s())
    assert [d == pytest.approx(0.5 * 2**n, rel=0.26) for n, d in enumerate(delays)] == [True] * 4
    assert max(delays) <= LONGEST_S * 1.25
    assert not backoff.failed
    backoff.died(ran_s=1)
    assert backoff.failed
    assert backoff.delay_s() == FAILED_RETRY_S


def test_a_death_after_a_long_life_starts_the_count_anew() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.died(ran_s=1)
    backoff.died(ran_s=3600)
    assert not backoff.failed
    assert backoff.delay_s() < 1


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, b"anything", Answer(ready=True)),
        (503, b'{"state": "starting"}', Answer(ready=False, detail="starting")),
        (503, b'{"state": "failed", "detail": "no model"}', Answer(ready=False, detail="no model", gave_up=True)),
        (503, b"<html>", Answer(ready=False, detail="answers 503")),
        (503, b"[1]", Answer(ready=False, detail="answers 503")),
        (404, b"", Answer(ready=False, detail="answers 404")),
    ],
)
def test_health_answers_are_understood(status: int, body: bytes, answer: Answer) -> None:
    assert understand(status, body) == answer


def test_the_state_file_comes_back_as_it_was_and_is_private(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    state = FarmState("http://127.0.0.1:4000/v1", parts=[PartState("a", "service")], failure=Failure("a", "b", "c"))
    farmstate.write(file, state)
    assert farmstate.read(file) == state
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"parts": 3, "failure": null}', "\x00"])
def test_a_broken_state_file_is_as_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)
    assert farmstate.read(file) is None


def test_a_pid_that_now_belongs_to_another_process_is_not_taken_for_ours() -> None:
    own = psutil.Process()
    assert farmstate.process(own.pid, own.create_time()) == own
    assert farmstate.process(own.pid, own.create_time() - 500) is None
    assert farmstate.process(None, 0) is None


def _parts(tmp_path: Path, environment: dict[str, str]) -> dict[str, Part]:
    machine = Machine("x86_64", frozenset({"avx2"}), 2, 8000, 50_000)
    file = DEFAULT_FARM_FILE
    farm = local_farm.choose(load_farm(file).value, file.parent, tmp_path / "models", machine)
    ports = {"litellm": 4000, "postgres": 15432, "chat-1": 8080, "chat-2": 8081, "embed-1": 8090}
    known = secrets.load_or_create(tmp_path / ".env", database_exists=False)
    state = StateDir(tmp_path)
    state.create()
    return {part.name: part for part in parts(farm, ports, known, state, file, environment, "model_list: []")}


def test_no_setting_leaks_from_the_callers_environment_into_a_gpu_server(tmp_path: Path) -> None:
    made = _parts(
        tmp_path, {"PATH": os.defpath, "N_CTX": "7", "MODE": "rerank", "DATABASE_URL": "x", "OPENAI_API_KEY": "y"}
    )
    server = made["chat-1"].environment
    assert server["N_CTX"] == "8192"
    assert server["MODE"] == "chat"
    assert not {"DATABASE_URL", "OPENAI_API_KEY", "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY"} & set(server)
    assert made["litellm"].environment["OPENAI_API_KEY"] == "y"  # an external provider's key is for the gate
    assert made["litellm"].environment["DATABASE_URL"].startswith("postgresql://litellm:")


def test_each_part_gets_only_its_own_secrets(tmp_path: Path) -> None:
    made = _parts(tmp_path, {"PATH": os.defpath})
    known = secrets.load_or_create(tmp_path / ".env", database_exists=False)
    holders = {
        secret: {name for name, part in made.items() if secret in str(dict(part.environment))}
        for secret in (known.litellm_master_key, known.postgres_password, known.gpu_server_key)
    }
    assert holders[known.litellm_master_key] == {"litellm"}
    assert holders[known.postgres_password] == {"litellm", "postgres"}
    assert holders[known.gpu_server_key] == {"litellm", "chat-1", "chat-2", "embed-1"}


def test_no_secret_stands_on_a_command_line_or_in_a_parts_repr(tmp_path: Path) -> None:
    made = _parts(tmp_path, {"PATH": os.defpath})
    known = secrets.load_or_create(tmp_path / ".env", database_exists=False)
    said = " ".join(repr(part) for part in made.values())
    assert not any(secret in said for secret in (known.litellm_master_key, known.postgres_password, known.ui_password))


def test_the_farms_own_traffic_goes_round_an_http_proxy(tmp_path: Path) -> None:
    """LiteLLM reaches its servers and its database's engine by HTTP."""
    environment = {"PATH": os.defpath, "http_proxy": "http://proxy:3128", "NO_PROXY": "intranet", "no_proxy": "other"}
    litellm = _parts(tmp_path, environment)["litellm"].environment
    assert litellm["http_proxy"] == "http://proxy:3128"  # providers outside are still reached through it
    assert set(litellm["NO_PROXY"].split(",")) == {"intranet", "other", "127.0.0.1", "localhost"}
    assert litellm["no_proxy"] == litellm["NO_PROXY"]


def test_the_line_that_names_the_error_is_quoted_not_the_last(tmp_path: Path) -> None:
    log = ["Traceback:", "  File x", "httpx.ConnectError: All connection attempts failed", "", "Exiting."]
    assert telling_line(log) == "httpx.ConnectError: All connection attempts failed"
    assert telling_line(["starting", "no room"]) == "no room"


def test_what_a_gpu_server_passes_on_is_quoted_without_its_prefix() -> None:
    time = "2026-11-21T15:57:42.560+00:00"
    log = [f"{time} chat-1 llama-server error: invalid argument: --nonsense", f"{time} chat-1 state state=failed"]
    assert telling_line(log) == "error: invalid argument: --nonsense"


def test_a_parts_revision_tells_of_its_settings_and_not_of_the_callers_environment(tmp_path: Path) -> None:
    one, other = _parts(tmp_path, {"PATH": os.defpath}), _parts(tmp_path, {"PATH": "/elsewhere", "CUDA_X": "1"})
    assert {name: part.revision for name, part in one.items()} == {name: part.revision for name, part in other.items()}
    assert one["chat-1"].revision != one["chat-2"].revision  # of another port
    assert one["postgres"].revision == ""  # never changed by `corral apply`
    assert telling_line([]) == ""


def test_a_part_survives_the_plan_file(tmp_path: Path) -> None:
    for part in _parts(tmp_path, {"PATH": os.defpath}).values():
        assert Part.from_json(part.to_json()) == part
