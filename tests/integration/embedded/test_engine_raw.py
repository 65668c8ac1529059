"""Raw queries, errors and metrics through the real Prisma client and the WebAssembly engine, against PostgreSQL."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

BY = {"created_by": "test", "updated_by": "test"}


async def test_raw_rows_have_their_types(db: Any) -> None:
    rows = await db.query_raw(
        """SELECT $1::text AS text, $2::int AS int, $3::jsonb AS json, $4::text[] AS list, 1.5::numeric AS decimal,
        true AS yes, NULL AS nothing, 9007199254740993 AS big, '2026-01-02T03:04:05+02'::timestamptz AS moment,
        '2026-01-02'::date AS day, 1.25::float8 AS double, ARRAY['2026-01-02T03:04:05+02'::timestamptz] AS moments,
        ARRAY[1, NULL] AS numbers""",
        "é",
        3,
        json.dumps({"a": [None]}),
        ["p", "q"],
    )
    assert rows == [
        {
            "text": "é",
            "int": 3,
            "json": {"a": [None]},
            "list": ["p", "q"],
            "decimal": 1.5,
            "yes": True,
            "nothing": None,
            "big": 9007199254740993,
            "moment": "2026-01-02T01:04:05+00:00",
            "day": "2026-01-02",
            "double": 1.25,
            "moments": ["2026-01-02T01:04:05+00:00"],
            "numbers": [1, None],
        }
    ]


async def test_raw_columns_of_types_the_adapter_refuses(db: Any) -> None:
    rows = await db.query_raw(
        """SELECT relname, array_agg(relname) AS names, oid::regclass AS class, interval '1 day' AS span,
        point(1, 2) AS place, pg_sleep(0) AS nothing, int4range(1, 3) AS range
        FROM pg_class WHERE relname = $1 GROUP BY relname, oid""",
        "LiteLLM_SpendLogs",
    )
    name = "LiteLLM_SpendLogs"
    expected = {"relname": name, "names": [name], "class": f'"{name}"', "span": "1 day", "place": "(1,2)"}
    assert rows == [{**expected, "nothing": "", "range": "[1,3)"}]


async def test_raw_statements(db: Any) -> None:
    await db.litellm_verificationtoken.create_many(data=[{"token": "a"}, {"token": "b"}])
    update = """UPDATE "LiteLLM_VerificationToken" SET spend = spend + $1
        WHERE token = ANY($2::text[]) AND created_at < $3::timestamptz"""
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await db.execute_raw(update, 0.5, ["a", "b", "c"], later) == 2
    assert (await db.query_first('SELECT spend FROM "LiteLLM_VerificationToken" WHERE token = $1', "a")) == {
        "spend": 0.5
    }


# Errors ------------------------------------------------------------------------------------------------------------


async def test_errors_have_their_classes(db: Any) -> None:
    from prisma import errors

    keys = db.litellm_verificationtoken
    await keys.create(data={"token": "t"})
    with pytest.raises(errors.UniqueViolationError, match="token"):
        await keys.create(data={"token": "t"})
    with pytest.raises(errors.ForeignKeyViolationError):
        await keys.create(data={"token": "u", "budget_id": "none"})
    with pytest.raises(errors.RecordNotFoundError):
        await keys.create(data={"token": "u", "litellm_budget_table": {"connect": {"budget_id": "none"}}})
    with pytest.raises(errors.FieldNotFoundError, match=r"data\.nope"):
        await keys.update(where={"token": "t"}, data={"nope": 1})
    with pytest.raises(errors.MissingRequiredValueError):
        await db.litellm_budgettable.create(data={"created_by": "x"})
    with pytest.raises(errors.RawQueryError, match='"nowhere" does not exist') as raised:
        await db.query_raw("SELECT 1 FROM nowhere")
    assert raised.value.meta["code"] == "42P01"
    with pytest.raises(errors.DataError):
        await keys.update(where={"token": "t"}, data={"spend": "much"})
    assert [key.token for key in await keys.find_many()] == ["t"]


async def test_a_missing_table_is_named(db: Any) -> None:
    from prisma.errors import TableNotFoundError

    await db.execute_raw('ALTER TABLE "LiteLLM_CronJob" RENAME TO "Elsewhere"')
    try:
        with pytest.raises(TableNotFoundError) as raised:
            await db.litellm_cronjob.find_many()
        assert "LiteLLM_CronJob" in str(raised.value.table)
    finally:
        await db.execute_raw('ALTER TABLE "Elsewhere" RENAME TO "LiteLLM_CronJob"')


async def test_a_query_nested_too_deep_is_refused_and_the_engine_lives(db: Any) -> None:
    from prisma.errors import PrismaError

    where: dict[str, Any] = {"token": "t"}
    for _ in range(100):
        where = {"AND": [where]}
    with pytest.raises(PrismaError, match="nested deeper than 128 levels"):
        await db.litellm_verificationtoken.find_many(where=where)
    for _ in range(50):
        where = where["AND"][0]
    assert await db.litellm_verificationtoken.find_many(where=where) == []


async def test_metrics_through_the_client(db: Any) -> None:
    await db.litellm_verificationtoken.count()
    metrics = await db.get_metrics()
    assert next(counter.value for counter in metrics.counters if counter.key == "prisma_client_queries_total") > 0
    assert "prisma_pool_connections_open" in await db.get_metrics(format="prometheus")
