"""LiteLLM's key management over HTTP: `/key/generate`, `/key/list`, `/key/info`, `/key/delete` and the model list.

Written against LiteLLM 1.106.2 (litellm/proxy/management_endpoints/key_management_endpoints.py). Keys are named by
their SHA-256, which is what LiteLLM stores: a raw key never goes into a URL, where logs would keep it.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from corral.keys.errors import GateError, InputError
from corral.keys.refusals import refusal

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
PAGE_SIZE = 100  # the most that /key/list gives at once
KEY_PREFIX = "sk-"
TRACES_SETTING = "corral_traces"
"""In a key's metadata; litellm/hooks/corral_traces reads it."""
_KEY_ID = re.compile(r"[0-9a-f]{64}")

State = Literal["active", "over budget", "blocked", "expired"]
Traces = Literal["off", "figures", "content"]


@dataclass(frozen=True, slots=True)
class GateAccess:
    """Where the gate is (`http://127.0.0.1:4000`, no `/v1`) and the master key that administers it."""

    base_url: str
    master_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key shall be allowed. None is no limit; no models means all of them, those of tomorrow too.

    `rpm` and `tpm` are requests and tokens per minute, `parallel` is requests at a time, `budget` is in US dollars and
    starts anew every `budget_reset`; durations are LiteLLM's: a number and s, m, h, d, w or mo. `traces` is what of its
    calls goes to Langfuse; None is what the farm says.
    """

    alias: str | None = None
    models: tuple[str, ...] = ()
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    budget: float | None = None
    budget_reset: str | None = None
    expires_in: str | None = None
    traces: Traces | None = None


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as LiteLLM keeps it. `id` is the SHA-256 of the key; `hint` is its last characters, `sk-...abcd`.

    `spend` and `budget` are US dollars; `spend` counts from the last reset and lags a minute behind the requests.
    """

    id: str
    hint: str
    alias: str | None
    models: tuple[str, ...]
    rpm: int | None
    tpm: int | None
    parallel: int | None
    spend: float
    budget: float | None
    budget_reset: str | None
    budget_resets_at: datetime | None
    expires: datetime | None
    created: datetime | None
    blocked: bool
    traces: str | None

    @property
    def name(self) -> str:
        """What to call it: the alias, else the hint."""
        return self.alias or self.hint

    def state(self, now: datetime) -> State:
        """Say whether the gate takes this key at `now`, or why not."""
        if self.blocked:
            return "blocked"
        if self.expires is not None and self.expires <= now:
            return "expired"
        if self.budget is not None and self.spend >= self.budget:
            return "over budget"
        return "active"


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A key just made. This is the only time that anybody sees `key`."""

    key: str = field(repr=False)
    info: KeyInfo


class KeyClient:
    """Manages the keys of one gate; an async context manager.

    Every method raises GateError if the gate does not answer in time or refuses, InputError if what was asked for is
    wrong.
    """

    def __init__(self, access: GateAccess, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Nothing is sent yet. `transport` replaces the network in tests."""
        self._base_url = access.base_url
        self._http = httpx.AsyncClient(
            base_url=access.base_url,
            headers={"Authorization": f"Bearer {access.master_key}"},
            timeout=httpx.Timeout(CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=False,  # a proxy server for the web is not on the way to the gate
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def models(self) -> list[str]:
        """Return the names of the models that the gate serves."""
        answer = await self._call("GET", "/v1/models")
        return [str(model["id"]) for model in answer.get("data") or []]

    async def create(self, new: NewKey) -> CreatedKey:
        """Make a key that may call the models and nothing else of the proxy (LiteLLM's key type `llm_api`).

        Raises:
            InputError: the alias is taken, or LiteLLM refuses a limit.
        """
        body = {
            "key_alias": new.alias,
            "models": list(new.models),
            "rpm_limit": new.rpm,
            "tpm_limit": new.tpm,
            "max_parallel_requests": new.parallel,
            "max_budget": new.budget,
            "budget_duration": new.budget_reset,
            "duration": new.expires_in,
            "metadata": {TRACES_SETTING: new.traces} if new.traces else None,
            "key_type": "llm_api",
        }
        answer = await self._call("POST", "/key/generate", json={k: v for k, v in body.items() if v is not None})
        key = str(answer["key"])
        return CreatedKey(key, _key_info({**answer, "token": key_id(key)}))

    async def all_keys(self) -> AsyncIterator[KeyInfo]:
        """Yield every key, newest first, fetching page after page."""
        page, pages = 1, 1
        seen: set[str] = set()  # a key made while we page shifts the pages
        while page <= pages:
            answer = await self._list(page=page)
            pages = int(answer.get("total_pages") or 0)
            for row in answer["keys"]:
                info = _key_info(row)
                if info.id not in seen:
                    seen.add(info.id)
                    yield info
            page += 1

    async def with_alias(self, alias: str) -> KeyInfo | None:
        """Return the key of exactly this alias, or None."""
        rows = (await self._list(page=1, key_alias=alias))["keys"]
        return next((_key_info(row) for row in rows if row.get("key_alias") == alias), None)

    async def find(self, reference: str) -> KeyInfo:
        """Return the key that `reference` names: the key itself, its id, or its alias.

        Raises:
            InputError: there is none, or it was revoked.
        """
        if reference.startswith(KEY_PREFIX) or _KEY_ID.fullmatch(reference):
            rows = (await self._list(page=1, key_hash=key_id(reference)))["keys"]
            found = next((_key_info(row) for row in rows), None)
        else:
            found = await self.with_alias(reference)
        if found is None:
            shown = mask(reference)
            raise InputError(f"no key {shown!r}, or it was revoked", "see the keys there are: corral keys list")
        return found

    async def revoke(self, ids: Sequence[str]) -> None:
        """Delete keys by their ids: from the next request on the gate refuses them. What they spent stays on record."""
        await self._call("POST", "/key/delete", json={"keys": list(ids)})

    async def _list(self, **filters: str | int) -> dict[str, Any]:
        parameters: dict[str, str | int] = {"return_full_object": "true", "size": PAGE_SIZE, **filters}
        return await self._call("GET", "/key/list", params=parameters)

    async def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        url = self._base_url
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                response = await self._http.request(method, path, **content)
        except (TimeoutError, httpx.TimeoutException):
            raise GateError(
                f"the gate at {url} did not answer {path} in time", "see what keeps it: make status, make logs"
            ) from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise GateError(
                f"no gate answers at {url} ({reason})", "start the farm (make up), or set CORRAL_ENDPOINT"
            ) from None
        if response.is_error:
            raise refusal(url, path, response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise GateError(f"{url}{path} does not answer like a LiteLLM proxy", "check CORRAL_ENDPOINT")
        return answer


def key_id(key: str) -> str:
    """Return the id under which LiteLLM keeps a key: its SHA-256; an id comes back as it is."""
    return hashlib.sha256(key.encode()).hexdigest() if key.startswith(KEY_PREFIX) else key


def mask(reference: str) -> str:
    """Return a form of a key that is fit for a screen or a log; what is not a key comes back as it is."""
    return f"{KEY_PREFIX}...{reference[-4:]}" if reference.startswith(KEY_PREFIX) else reference


def _key_info(row: dict[str, Any]) -> KeyInfo:
    """Read LiteLLM's row of a key, as `/key/list` and `/key/generate` give it."""
    return KeyInfo(
        id=str(row.get("token") or ""),
        hint=str(row.get("key_name") or "(no name)"),
        alias=row.get("key_alias") or None,
        models=tuple(row.get("models") or ()),
        rpm=row.get("rpm_limit"),
        tpm=row.get("tpm_limit"),
        parallel=row.get("max_parallel_requests"),
        spend=float(row.get("spend") or 0.0),
        budget=row.get("max_budget"),
        budget_reset=row.get("budget_duration") or None,
        budget_resets_at=_moment(row.get("budget_reset_at")),
        expires=_moment(row.get("expires")),
        created=_moment(row.get("created_at")),
        blocked=bool(row.get("blocked")),
        traces=(row.get("metadata") or {}).get(TRACES_SETTING),
    )


def _moment(text: str | None) -> datetime | None:
    """Read a time of LiteLLM's; without a zone it is UTC."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
