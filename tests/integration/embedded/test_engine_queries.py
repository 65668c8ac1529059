"""What LiteLLM asks of its database, through the real Prisma client and the WebAssembly engine, against PostgreSQL."""

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

BY = {"created_by": "test", "updated_by": "test"}


def spend_log(number: int, **more: Any) -> dict[str, Any]:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return {
        "request_id": f"request-{number}",
        "call_type": "chat",
        "startTime": at,
        "endTime": at,
        "spend": 0.5,
        **more,
    }


# Values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        'quotes " \\ /',
        "line\nbreak\r\n\ttab",
        # U+2028 and kin are left out: prisma-client-py indents its queries, and takes those for ends of lines
        "\ufeff\uffff\x01\x7f\ud7ff\ue000\U0010ffff",
        "é 漢字 العربية 😀 👩\u200d👩\u200d👧 e\u0301",
        '"""block"""',
        "{ # $1 }",
        "x" * 1_000_000,
    ],
    ids=lambda text: repr(text[:12]),
)
async def test_a_text_comes_back_as_it_was(db: Any, text: str) -> None:
    created = await db.litellm_verificationtoken.create(data={"token": "t", "key_name": text})
    assert created.key_name == text
    found = await db.litellm_verificationtoken.find_first(where={"key_name": text})
    assert found is not None
    assert found.token == "t"


async def test_a_text_that_postgresql_cannot_store_is_an_error_of_that_query(db: Any) -> None:
    from prisma.errors import PrismaError

    with pytest.raises(PrismaError, match="invalid byte sequence"):
        await db.litellm_verificationtoken.create(data={"token": "nul \0"})
    assert await db.litellm_verificationtoken.count() == 0


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)])
async def test_a_big_integer_keeps_every_digit(db: Any, number: int) -> None:
    created = await db.litellm_budgettable.create(data={**BY, "tpm_limit": number})
    assert created.tpm_limit == number
    assert await db.litellm_budgettable.count(where={"tpm_limit": {"gte": number}}) == 1


@pytest.mark.parametrize("number", [0.0, 0.1, -1.5e-300, 1e300, 5e-324, 123456789.123456, 1e22, 2**60])
async def test_a_float_keeps_15_digits(db: Any, number: float) -> None:
    created = await db.litellm_budgettable.create(data={**BY, "max_budget": number})
    assert created.max_budget == number
    found = await db.litellm_budgettable.find_unique(where={"budget_id": created.budget_id})
    assert found.max_budget == number


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 11, 21, 10, 30, 15, 123000, tzinfo=UTC),
        datetime(2026, 7, 1, 23, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=-8))),
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
)
async def test_a_moment_is_the_same_moment_whatever_its_time_zone(db: Any, at: datetime) -> None:
    await db.litellm_verificationtoken.create(data={"token": "t", "expires": at})
    found = await db.litellm_verificationtoken.find_first(where={"expires": {"lte": at, "gte": at}})
    assert found.expires == at


async def test_nulls_lists_booleans_and_enums(db: Any) -> None:
    created = await db.litellm_verificationtoken.create(data={"token": "t", "models": ["b", "a", ""], "blocked": True})
    assert (created.models, created.blocked, created.expires, created.policies) == (["b", "a", ""], True, None, [])
    await db.litellm_verificationtoken.update(where={"token": "t"}, data={"models": {"push": ["c"]}, "blocked": None})
    changed = await db.litellm_verificationtoken.update(where={"token": "t"}, data={"models": {"push": ["d"]}})
    assert (changed.models, changed.blocked) == (["b", "a", "", "c", "d"], None)
    emptied = await db.litellm_verificationtoken.update(where={"token": "t"}, data={"models": {"set": []}})
    assert emptied.models == []

    job = await db.litellm_cronjob.create(
        data={"pod_id": "p", "ttl": datetime(2026, 1, 1, tzinfo=UTC), "status": "ACTIVE"}
    )
    assert job.status == "ACTIVE"
    assert await db.litellm_cronjob.count(where={"status": "INACTIVE"}) == 0


async def test_bytes(db: Any) -> None:
    from prisma.fields import Base64

    content = bytes(range(256))
    created = await db.litellm_managedfilecontenttable.create(data={"content": Base64.encode(content)})
    assert created.content.decode() == content


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        "text",
        0,
        True,
        {"a": [1, None, {"ü": "😀"}], "$type": "Json", "value": "trap", "": {}},
        {"big": 2**60, "small": -1.25},
        {"deep": json.loads("[" * 60 + "]" * 60)},
    ],
)
async def test_json_comes_back_as_it_was(db: Any, value: Any) -> None:
    from prisma import Json

    await db.litellm_verificationtoken.create(data={"token": "t", "metadata": Json(value)})
    assert (await db.litellm_verificationtoken.find_unique(where={"token": "t"})).metadata == value


# Queries -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "tokens"),
    [
        ({"path": ["tier"], "equals": '"gold"'}, ["a"]),
        ({"path": ["tier"], "not": '"gold"'}, ["b"]),
        ({"path": ["tier"], "string_contains": "ol"}, ["a"]),
        ({"path": ["tier"], "string_starts_with": "sil"}, ["b"]),
        ({"path": ["tier"], "string_ends_with": "d"}, ["a"]),
        ({"path": ["tags"], "array_contains": '["x"]'}, ["a", "b"]),
        ({"path": ["tags"], "array_contains": '["y"]'}, ["b"]),
        ({"path": ["limits", "rpm"], "gte": "10"}, ["b"]),
        ({"equals": '{"other": null}'}, ["c"]),
        ({"not": '{"other": null}'}, ["a", "b"]),
    ],
)
async def test_json_filters(db: Any, condition: dict[str, Any], tokens: list[str]) -> None:
    from prisma import Json

    rows = {
        "a": {"tier": "gold", "tags": ["x"], "limits": {"rpm": 5}},
        "b": {"tier": "silver", "tags": ["x", "y"], "limits": {"rpm": 50}},
        "c": {"other": None},
    }
    for token, metadata in rows.items():
        await db.litellm_verificationtoken.create(data={"token": token, "metadata": Json(metadata)})
    found = await db.litellm_verificationtoken.find_many(where={"metadata": condition}, order={"token": "asc"})
    assert [row.token for row in found] == tokens


async def test_filters_order_and_pages(db: Any) -> None:
    keys = db.litellm_verificationtoken
    for number in range(5):
        await keys.create(
            data={"token": f"t{number}", "spend": float(number), "models": ["m"] * number, "key_name": f"Key {number}"}
        )

    async def tokens(**query: Any) -> list[str]:
        return [row.token for row in await keys.find_many(**{"order": {"token": "asc"}, **query})]

    assert await tokens(where={"spend": {"gt": 1, "lt": 4}}) == ["t2", "t3"]
    assert await tokens(where={"OR": [{"token": "t0"}, {"token": {"in": ["t4"]}}]}) == ["t0", "t4"]
    assert await tokens(where={"NOT": [{"token": {"in": ["t0", "t1"]}}]}) == ["t2", "t3", "t4"]
    assert await tokens(where={"key_name": {"contains": "KEY", "mode": "insensitive"}}, take=2, skip=1) == ["t1", "t2"]
    assert await tokens(where={"models": {"is_empty": True}}) == ["t0"]
    assert await tokens(where={"models": {"has": "m"}, "expires": None}, order={"spend": "desc"}) == [
        "t4",
        "t3",
        "t2",
        "t1",
    ]
    assert await tokens(cursor={"token": "t2"}, take=2) == ["t2", "t3"]
    assert await keys.count(where={"spend": {"gte": 3}}) == 2


async def test_group_by(db: Any) -> None:
    for number in range(6):
        await db.litellm_spendlogs.create(data=spend_log(number, api_key=f"k{number % 2}", total_tokens=number))
    groups = await db.litellm_spendlogs.group_by(
        by=["api_key"], count=True, sum={"spend": True, "total_tokens": True}, order={"api_key": "asc"}
    )
    assert [(group["api_key"], group["_count"]["_all"], group["_sum"]) for group in groups] == [
        ("k0", 3, {"spend": 1.5, "total_tokens": 6}),
        ("k1", 3, {"spend": 1.5, "total_tokens": 9}),
    ]


async def test_nothing_found(db: Any) -> None:
    from prisma.errors import RecordNotFoundError

    keys = db.litellm_verificationtoken
    assert await keys.find_unique(where={"token": "none"}) is None
    assert await keys.find_first(where={"token": "none"}) is None
    assert await keys.find_many() == []
    assert await keys.update(where={"token": "none"}, data={"spend": 1.0}) is None
    assert await keys.delete(where={"token": "none"}) is None
    assert await keys.update_many(where={"token": "none"}, data={"spend": 1.0}) == 0
    assert await keys.delete_many(where={"token": "none"}) == 0
    for find in (keys.find_unique_or_raise, keys.find_first_or_raise):
        with pytest.raises(RecordNotFoundError):
            await find(where={"token": "none"})


# Nested writes and upserts -----------------------------------------------------------------------------------------


async def test_nested_create_and_connect(db: Any) -> None:
    from prisma import Json

    team = await db.litellm_teamtable.create(
        data={
            "team_alias": "red",
            "litellm_model_table": {"create": {**BY, "model_aliases": Json({"gpt": "chat"})}},
            "litellm_organization_table": {
                "create": {
                    **BY,
                    "organization_alias": "org",
                    "metadata": Json({"k": [1]}),
                    "litellm_budget_table": {"create": {**BY, "max_budget": 5.0, "tpm_limit": 2**60}},
                }
            },
        },
        include={
            "litellm_model_table": True,
            "litellm_organization_table": {"include": {"litellm_budget_table": True}},
        },
    )
    organization = team.litellm_organization_table
    assert team.litellm_model_table.model_aliases == {"gpt": "chat"}
    assert (organization.metadata, organization.litellm_budget_table.tpm_limit) == ({"k": [1]}, 2**60)

    key = await db.litellm_verificationtoken.create(
        data={
            "token": "t",
            "litellm_organization_table": {"connect": {"organization_id": organization.organization_id}},
        },
        include={"litellm_organization_table": {"include": {"teams": True}}},
    )
    assert [team.team_alias for team in key.litellm_organization_table.teams] == ["red"]


async def test_connect_or_create_makes_one_and_then_finds_it(db: Any) -> None:
    budget = {"where": {"budget_id": "b"}, "create": {**BY, "budget_id": "b", "max_budget": 7.0}}
    for token in ("t1", "t2"):
        await db.litellm_verificationtoken.create(
            data={"token": token, "litellm_budget_table": {"connectOrCreate": budget}}
        )
    found = await db.litellm_budgettable.find_many(include={"keys": {"order_by": {"token": "asc"}}})
    assert [[key.token for key in budget.keys] for budget in found] == [["t1", "t2"]]


async def test_nested_update_upsert_disconnect_and_delete(db: Any) -> None:
    from prisma import Json

    budgets = db.litellm_budgettable
    create = [{"token": token, "metadata": Json({"n": token})} for token in ("t1", "t2", "t3")]
    await budgets.create(data={**BY, "budget_id": "b", "keys": {"create": create}})

    async def change(**keys: Any) -> dict[str, Any]:
        budget = await budgets.update(
            where={"budget_id": "b"}, data={"keys": keys}, include={"keys": {"order_by": {"token": "asc"}}}
        )
        return {key.token: key.metadata for key in budget.keys}

    updated = await change(update=[{"where": {"token": "t1"}, "data": {"metadata": Json({"n": "new"})}}])
    assert updated == {"t1": {"n": "new"}, "t2": {"n": "t2"}, "t3": {"n": "t3"}}
    upsert = {"create": {"token": "t4", "metadata": Json({"n": 4})}, "update": {"metadata": Json({"n": 44})}}
    assert (await change(upsert=[{"where": {"token": "t4"}, **upsert}]))["t4"] == {"n": 4}
    assert (await change(upsert=[{"where": {"token": "t4"}, **upsert}]))["t4"] == {"n": 44}
    await change(updateMany=[{"where": {"metadata": {"equals": Json({"n": "t3"})}}, "data": {"metadata": Json([])}}])
    assert (await change(disconnect=[{"token": "t2"}])) == {"t1": {"n": "new"}, "t3": [], "t4": {"n": 44}}
    assert list(await change(delete=[{"token": "t1"}])) == ["t3", "t4"]
    assert await change(deleteMany=[{"metadata": {"equals": Json([])}}]) == {"t4": {"n": 44}}
    assert await change(set=[{"token": "t2"}]) == {"t2": {"n": "t2"}}
    assert await db.litellm_verificationtoken.count() == 2


async def test_update_through_a_relation_to_one_record(db: Any) -> None:
    await db.litellm_verificationtoken.create(
        data={"token": "t", "litellm_budget_table": {"create": {**BY, "max_budget": 1.0}}}
    )
    key = await db.litellm_verificationtoken.update(
        where={"token": "t"},
        data={"litellm_budget_table": {"update": {"max_budget": {"increment": 2}}}},
        include={"litellm_budget_table": True},
    )
    assert key.litellm_budget_table.max_budget == 3.0


async def test_filters_on_relations(db: Any) -> None:
    await db.litellm_verificationtoken.create(
        data={"token": "rich", "litellm_budget_table": {"create": {**BY, "max_budget": 9.0}}}
    )
    await db.litellm_verificationtoken.create(data={"token": "poor"})
    where = {"litellm_budget_table": {"is": {"max_budget": {"gte": 5}}}}
    assert [key.token for key in await db.litellm_verificationtoken.find_many(where=where)] == ["rich"]
    assert await db.litellm_budgettable.count(where={"keys": {"some": {"token": "rich"}}}) == 1
    assert await db.litellm_budgettable.count(where={"keys": {"none": {"token": "rich"}}}) == 0


async def test_upsert_and_compound_keys(db: Any) -> None:
    memberships = db.litellm_teammembership
    where = {"user_id_team_id": {"user_id": "u", "team_id": "t"}}
    data = {"create": {"user_id": "u", "team_id": "t", "spend": 1.0}, "update": {"spend": {"increment": 2}}}
    assert (await memberships.upsert(where=where, data=data)).spend == 1.0
    assert (await memberships.upsert(where=where, data=data)).spend == 3.0
    assert (await memberships.find_unique(where=where)).spend == 3.0


async def test_concurrent_upserts_of_one_key_make_one_row_and_lose_nothing(db: Any) -> None:
    data = {"create": {"token": "t", "spend": 1.0}, "update": {"spend": {"increment": 1}}}
    await asyncio.gather(*(db.litellm_verificationtoken.upsert(where={"token": "t"}, data=data) for _ in range(50)))
    assert [key.spend for key in await db.litellm_verificationtoken.find_many()] == [50.0]


# Batches -----------------------------------------------------------------------------------------------------------


async def test_a_thousand_rows_at_once_and_again_without_duplicates(db: Any) -> None:
    rows = [
        spend_log(number, metadata=json.dumps({"n": number}), messages=json.dumps("x" * 2000)) for number in range(1000)
    ]
    assert await db.litellm_spendlogs.create_many(data=rows, skip_duplicates=True) == 1000
    assert await db.litellm_spendlogs.create_many(data=[*rows, spend_log(1000)], skip_duplicates=True) == 1
    found = await db.litellm_spendlogs.find_many(take=1000, order={"startTime": "asc"})
    assert [row.metadata["n"] for row in found] == list(range(1000))


async def test_a_batch_of_a_thousand_updates_is_one_transaction(db: Any) -> None:
    from prisma.errors import UniqueViolationError

    keys = db.litellm_verificationtoken
    await keys.create_many(data=[{"token": f"t{number}"} for number in range(1000)])
    async with db.batch_() as batch:
        for number in range(1000):
            batch.litellm_verificationtoken.update(where={"token": f"t{number}"}, data={"spend": {"increment": number}})
    groups = await db.query_raw('SELECT sum(spend)::float8 AS total FROM "LiteLLM_VerificationToken"')
    assert groups == [{"total": 499500.0}]

    batch = db.batch_()
    batch.litellm_verificationtoken.update_many(where={}, data={"spend": 0.0})
    batch.litellm_verificationtoken.create(data={"token": "t1"})
    with pytest.raises(UniqueViolationError):
        await batch.commit()
    assert await keys.count(where={"spend": 0.0}) == 1, "a failed batch must change nothing"
