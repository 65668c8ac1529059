"""Talking to LiteLLM's key API: every failure is one line that says what to do, and no key gets into a URL."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from corral import farmstate
from corral.envfile import parse_env
from corral.farmstate import FarmState
from corral.keys import client as client_module
from corral.keys.access import base_url, resolve_access
from corral.keys.client import GateAccess, KeyClient, KeyInfo, NewKey
from corral.keys.errors import GateError, InputError, KeysError
from support.fake_litellm_keys import MASTER_KEY, FakeLiteLLMKeys, proxy_error
from support.ports import free_port

ACCESS = GateAccess("http://gate:4000", MASTER_KEY)


@pytest.fixture
def litellm() -> FakeLiteLLMKeys:
    return FakeLiteLLMKeys()


def connected(litellm: FakeLiteLLMKeys, access: GateAccess = ACCESS) -> KeyClient:
    return KeyClient(access, transport=httpx.MockTransport(litellm))


async def test_a_key_is_made_with_its_limits_and_may_only_call_models(litellm: FakeLiteLLMKeys) -> None:
    new = NewKey("app", ("chat",), rpm=60, tpm=1000, parallel=2, budget=2.5, budget_reset="7d", expires_in="30d")
    async with connected(litellm) as client:
        created = await client.create(new)
        assert await client.find(created.key) == created.info
    sent = litellm.requests[0].read().decode()
    assert '"key_type":"llm_api"' in sent
    info = created.info
    limits = (info.alias, info.models, info.rpm, info.tpm, info.parallel, info.budget, info.budget_reset)
    assert limits == ("app", ("chat",), 60, 1000, 2, 2.5, "7d")
    assert info.expires is not None
    assert timedelta(days=29) < info.expires - datetime.now(UTC) < timedelta(days=31)
    assert created.key not in repr(created)


async def test_all_keys_are_listed_however_many_pages_they_fill(litellm: FakeLiteLLMKeys) -> None:
    for number in range(231):
        litellm.add(key_alias=f"app-{number}")
    async with connected(litellm) as client:
        listed = [key.alias async for key in client.all_keys()]
    assert listed == [f"app-{number}" for number in reversed(range(231))]
    assert len(litellm.requests) == 3


async def test_a_key_made_while_pages_are_fetched_repeats_none(
    litellm: FakeLiteLLMKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE_SIZE", 2)
    for number in range(4):
        litellm.add(key_alias=f"app-{number}")
    async with connected(litellm) as client:
        listed = []
        async for key in client.all_keys():
            listed.append(key.alias)
            if len(listed) == 1:
                litellm.add(key_alias="late")
    assert listed == ["app-3", "app-2", "app-1", "app-0"]


async def test_a_key_is_found_by_itself_its_id_and_its_alias_and_stays_out_of_urls(litellm: FakeLiteLLMKeys) -> None:
    key = litellm.add(key_alias="app")
    litellm.add(key_alias="app-2")
    async with connected(litellm) as client:
        found = [await client.find(reference) for reference in (key, litellm.rows[1]["token"], "app")]
    assert {info.alias for info in found} == {"app"}
    assert not any(key in str(request.url) for request in litellm.requests)


async def test_a_revoked_key_is_gone(litellm: FakeLiteLLMKeys) -> None:
    key = litellm.add()
    async with connected(litellm) as client:
        await client.revoke([(await client.find(key)).id])
        with pytest.raises(InputError, match=r"no key 'sk-\.\.\.test', or it was revoked") as caught:
            await client.find(key)
    assert key not in str(caught.value)


async def test_revoking_what_another_just_revoked_says_so(litellm: FakeLiteLLMKeys) -> None:
    async with connected(litellm) as client:
        with pytest.raises(InputError, match="No keys found"):
            await client.revoke(["0" * 64])


@pytest.mark.parametrize(
    ("broken", "error", "says"),
    [
        (httpx.ConnectError("Connection refused"), GateError, "no gate answers at http://gate:4000 .*make up"),
        (httpx.ReadTimeout("slow"), GateError, "did not answer /v1/models in time; .*make status"),
        (httpx.RemoteProtocolError(""), GateError, r"no gate answers at .*RemoteProtocolError"),
        (httpx.Response(200, text="<html>"), GateError, "does not answer like a LiteLLM proxy; check CORRAL_ENDPOINT"),
        (httpx.Response(200, json=[]), GateError, "does not answer like a LiteLLM proxy"),
        (httpx.Response(404, json={"detail": "Not Found"}), GateError, "it is no LiteLLM proxy; check CORRAL_ENDPOINT"),
        (httpx.Response(502, text="<h1>Bad\nGateway"), GateError, "answers 502 to /v1/models: no message; see why"),
        (
            proxy_error(401, f"Received API Key = {MASTER_KEY}"),
            GateError,
            "refuses the master key; .*LITELLM_MASTER_KEY",
        ),
        (proxy_error(403, "Only proxy admin"), GateError, "refuses the master key"),
        (proxy_error(500, "{'error': 'DB not connected. See docs'}"), GateError, "has no database; .*PostgreSQL"),
        (proxy_error(500, "Authentication Error, Database not connected"), GateError, "has no database"),
        (proxy_error(500, "Can't reach database server at `127.0.0.1:1`. connect"), GateError, "has no database"),
        (
            proxy_error(500, "Internal Server Error."),
            GateError,
            "answers 500 to /v1/models: Internal Server Error; see",
        ),
        (
            proxy_error(400, "{'error': 'max_budget must be finite'}"),
            InputError,
            "refuses this: max_budget must be finite",
        ),
        (
            proxy_error(400, "Key with alias 'a' already exists.", "key_alias"),
            InputError,
            "already exists; choose another",
        ),
        (
            httpx.Response(422, json={"detail": [{"loc": ["body", "rpm_limit"], "msg": "not an integer"}]}),
            InputError,
            "refuses this: rpm_limit: not an integer",
        ),
        (httpx.Response(400, json={"detail": {"error": "first\nsecond"}}), InputError, "refuses this: first second"),
        (httpx.Response(400, json={"error": "plain"}), InputError, "refuses this: plain"),
        (httpx.Response(400, json={"error": "{'half"}), InputError, "refuses this: {'half"),
        (httpx.Response(400, json=None), InputError, "refuses this: status 400"),
        (proxy_error(500, "long " * 1000), GateError, "long long .*…; see why"),
    ],
)
async def test_every_failure_is_one_line_with_a_mend(
    litellm: FakeLiteLLMKeys, broken: httpx.Response | Exception, error: type[KeysError], says: str
) -> None:
    litellm.broken = broken
    async with connected(litellm) as client:
        with pytest.raises(error, match=says) as caught:
            await client.models()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert MASTER_KEY not in str(caught.value)


async def test_a_wrong_master_key_is_said_without_showing_it(litellm: FakeLiteLLMKeys) -> None:
    async with connected(litellm, GateAccess("http://gate:4000", "sk-wrong-5678")) as client:
        with pytest.raises(GateError, match="refuses the master key") as caught:
            await client.models()
    assert "5678" not in str(caught.value)


async def test_a_port_where_nothing_listens_says_to_start_the_farm() -> None:
    async with KeyClient(GateAccess(f"http://127.0.0.1:{free_port()}", MASTER_KEY)) as client:
        with pytest.raises(GateError, match=r"no gate answers at http://127\.0\.0\.1.*start the farm \(make up\)"):
            await client.models()


NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "active"),
        ({"blocked": True, "expires": "2026-11-01T00:00:00"}, "blocked"),
        ({"expires": "2026-11-20T23:59:59"}, "expired"),
        ({"expires": "2026-11-21T01:00:00+00:00"}, "active"),
        ({"expires": "2026-11-21T01:00:00+02:00"}, "expired"),
        ({"spend": 1.0, "max_budget": 1.0}, "over budget"),
        ({"spend": 0.9, "max_budget": 1.0}, "active"),
        ({"spend": 0.0, "max_budget": 0.0}, "over budget"),
    ],
)
async def test_the_state_says_whether_the_gate_takes_the_key(
    litellm: FakeLiteLLMKeys, fields: dict[str, object], state: str
) -> None:
    litellm.add(**fields)
    async with connected(litellm) as client:
        (key,) = [key async for key in client.all_keys()]
    assert isinstance(key, KeyInfo)
    assert key.state(NOW) == state


def farm(state_dir: Path, env: str = "", *, running: bool = True) -> Path:
    """A farm's state folder; this process stands for its keeper."""
    (state_dir / "run").mkdir(parents=True)
    own = psutil.Process()
    state = FarmState("http://127.0.0.1:4000/v1", "running", own.pid, own.create_time() if running else 1.0)
    farmstate.write(state_dir / "run" / "state.json", state)
    (state_dir / ".env").write_text(env)
    return state_dir


def test_the_farm_on_this_machine_says_where_the_gate_is(tmp_path: Path) -> None:
    state = farm(tmp_path, "# secrets\nOTHER=1\nexport LITELLM_MASTER_KEY='sk-from=file'\n")
    access = resolve_access(state, {"CORRAL_ENDPOINT": ""})
    assert access == GateAccess("http://127.0.0.1:4000", "sk-from=file")
    assert "sk-from" not in repr(access)


def test_the_master_key_of_a_stopped_farm_goes_nowhere(tmp_path: Path) -> None:
    """Whatever listens on its port now would get it."""
    with pytest.raises(GateError, match=r"no farm runs in .*; start it with `make up`"):
        resolve_access(farm(tmp_path, "LITELLM_MASTER_KEY=sk-1", running=False), {})


def test_one_gates_master_key_never_goes_to_another(tmp_path: Path) -> None:
    state = farm(tmp_path, "LITELLM_MASTER_KEY=sk-of-the-farm")
    with pytest.raises(GateError, match="CORRAL_ENDPOINT is set, but not LITELLM_MASTER_KEY"):
        resolve_access(state, {"CORRAL_ENDPOINT": "https://gate.lan/v1"})
    assert resolve_access(state, {"LITELLM_MASTER_KEY": "sk-of-another"}).master_key == "sk-of-the-farm"


def test_the_environment_goes_first_and_needs_no_farm(tmp_path: Path) -> None:
    environ = {"CORRAL_ENDPOINT": "https://gate.lan/v1/", "LITELLM_MASTER_KEY": "sk-env"}
    assert resolve_access(tmp_path / "absent", environ) == GateAccess("https://gate.lan", "sk-env")


@pytest.mark.parametrize("env", ["LITELLM_MASTER_KEY=", "# LITELLM_MASTER_KEY=sk-1", ""])
def test_a_farm_without_a_master_key_says_so(tmp_path: Path, env: str) -> None:
    with pytest.raises(GateError, match=r"no LITELLM_MASTER_KEY in .*\.env; set"):
        resolve_access(farm(tmp_path, env), {})


@pytest.mark.parametrize("content", [None, "{", "[]", '{"endpoint": 4000}'])
def test_without_a_farm_the_mend_is_make_up(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "state.json").write_text(content)
    with pytest.raises(GateError, match=r"no farm runs in .*; start it with `make up`"):
        resolve_access(tmp_path, {})


@pytest.mark.parametrize("endpoint", ["localhost:4000", "ftp://h/v1", "http://", "http://h:99999", "http://[::1", ""])
def test_what_is_no_address_is_said(endpoint: str) -> None:
    with pytest.raises(InputError, match="no address of a gate; give one like http://"):
        base_url(endpoint)


@pytest.mark.parametrize(
    ("text", "variables"),
    [("A=1\nB = two \n", {"A": "1", "B": "two"}), ('A="x y"\nB="', {"A": "x y", "B": '"'}), ("no equals\n#A=1", {})],
)
def test_env_files_are_read_as_compose_reads_them(text: str, variables: dict[str, str]) -> None:
    assert parse_env(text) == variables
