"""The keys that a load test uses: made for it, and gone after it."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from corral.keys.client import CreatedKey, GateAccess, KeyClient, NewKey

LIFETIME = "2d"  # should the end of a run be missed, they do not stay for good
COUNT = 8
RPM = 30


@dataclass(frozen=True)
class Limited:
    """A key with a limit, for keys.js. A greedy one asks for more than its limit."""

    key: str
    rpm: int
    greedy: bool


@contextmanager
def one(access: GateAccess) -> Iterator[str]:
    """Give a key without limits."""
    with _made(access, [NewKey(alias=_alias(), expires_in=LIFETIME)]) as (created,):
        yield created.key


@contextmanager
def limited(access: GateAccess, count: int = COUNT, rpm: int = RPM) -> Iterator[str]:
    """Give keys of so many requests a minute each, every other one greedy, as keys.js takes them."""
    wanted = [NewKey(alias=_alias(), rpm=rpm, expires_in=LIFETIME) for _ in range(count)]
    with _made(access, wanted) as made:
        keys = [Limited(created.key, rpm, greedy=number % 2 == 1) for number, created in enumerate(made)]
        yield json.dumps([vars(key) for key in keys])


def _alias() -> str:
    return f"load-test-{secrets.token_hex(4)}"


@contextmanager
def _made(access: GateAccess, wanted: list[NewKey]) -> Iterator[list[CreatedKey]]:
    made = asyncio.run(_create(access, wanted))
    try:
        yield made
    finally:
        asyncio.run(_revoke(access, made))


async def _create(access: GateAccess, wanted: list[NewKey]) -> list[CreatedKey]:
    async with KeyClient(access) as client:
        return [await client.create(new) for new in wanted]


async def _revoke(access: GateAccess, made: list[CreatedKey]) -> None:
    async with KeyClient(access) as client:
        await client.revoke([created.info.id for created in made])
