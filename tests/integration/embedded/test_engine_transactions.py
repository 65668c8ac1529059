"""Transactions under concurrency, and what happens to work in flight when PostgreSQL goes and comes back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from support.engine import ENGINE, clear, connected, engine_process, litellm_database
from support.postgres import Postgres
from support.waiting import wait_until_async

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

LONG = timedelta(seconds=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with litellm_database(tmp_path_factory.mktemp("engine")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: Postgres) -> AsyncIterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMA_QUERY_ENGINE_BINARY", str(ENGINE))
        async with connected(f"{server.url}?connection_limit=5&pool_timeout=60") as client:
            yield client


@pytest_asyncio.fixture(loop_scope="module")
async def db(client: Any, server: Postgres) -> Any:
    """The client, with one key `t` that has spent nothing."""
    clear(server.url, "VerificationToken")
    await client.litellm_verificationtoken.create(data={"token": "t"})
    return client


async def spend(db: Any) -> float:
    key = await db.litellm_verificationtoken.find_unique(where={"token": "t"})
    return float(key.spend)


def add(db: Any, amount: float) -> Any:
    return db.litellm_verificationtoken.update(where={"token": "t"}, data={"spend": {"increment": amount}})


async def pool_is_idle(db: Any) -> bool:
    gauges = {gauge.key: gauge.value for gauge in (await db.get_metrics()).gauges}
    return bool(gauges["prisma_pool_connections_busy"] == 0)


async def test_increments_from_fifty_coroutines_sum_exactly(db: Any) -> None:
    await asyncio.gather(*(add(db, 1) for _ in range(50)))
    assert await spend(db) == 50


async def test_read_and_write_in_fifty_transactions_at_once_sum_exactly(db: Any) -> None:
    async def one() -> None:
        async with db.tx(max_wait=LONG, timeout=LONG) as tx:
            rows = await tx.query_raw('SELECT spend FROM "LiteLLM_VerificationToken" WHERE token = $1 FOR UPDATE', "t")
            await tx.litellm_verificationtoken.update(where={"token": "t"}, data={"spend": rows[0]["spend"] + 1})

    await asyncio.gather(*(one() for _ in range(50)))
    assert await spend(db) == 50


async def test_a_transaction_is_seen_by_others_only_when_committed(db: Any) -> None:
    async with db.tx() as tx:
        await add(tx, 1)
        assert (await spend(tx), await spend(db)) == (1, 0)
    assert await spend(db) == 1


async def test_an_exception_rolls_back(db: Any) -> None:
    async def fail() -> None:
        async with db.tx() as tx:
            await add(tx, 1000)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await spend(db) == 0


async def test_a_failed_statement_rolls_back_all_of_its_transaction(db: Any) -> None:
    from prisma.errors import UniqueViolationError

    async def fail() -> None:
        async with db.tx() as tx:
            await add(tx, 1000)
            await tx.litellm_verificationtoken.create(data={"token": "t"})

    with pytest.raises(UniqueViolationError):
        await fail()
    assert await spend(db) == 0


async def test_a_transaction_over_its_time_is_rolled_back_and_says_so(db: Any) -> None:
    from prisma.errors import TransactionExpiredError

    transaction = db.tx(timeout=timedelta(milliseconds=300))
    tx = await transaction.start()
    await add(tx, 1000)
    # The row is locked until the transaction expires, so this returns only then
    await add(db, 1)
    with pytest.raises(
        TransactionExpiredError, match=r"expired transaction\. The timeout for this transaction was 300 ms"
    ):
        await add(tx, 1000)
    assert await spend(db) == 1
    await wait_until_async(lambda: pool_is_idle(db), 5, "the connection to be given back")


async def test_a_transaction_that_gets_no_connection_in_time_says_so(db: Any) -> None:
    from prisma.errors import TransactionError

    held = [db.tx(timeout=LONG) for _ in range(5)]
    for transaction in held:
        await transaction.start()
    try:
        with pytest.raises(TransactionError, match="Unable to start a transaction in the given time"):
            await db.tx(max_wait=timedelta(milliseconds=200)).start()
    finally:
        for transaction in held:
            await transaction.rollback()
    assert await spend(db) == 0
    await wait_until_async(lambda: pool_is_idle(db), 10, "all connections to be given back")


async def test_two_transactions_that_wait_for_each_other_end_in_an_error_not_in_silence(db: Any) -> None:
    from prisma.errors import PrismaError

    await db.litellm_verificationtoken.create(data={"token": "u"})
    locked = asyncio.Barrier(2)

    async def one(first: str, second: str) -> None:
        async with db.tx(timeout=LONG) as tx:
            await tx.litellm_verificationtoken.update(where={"token": first}, data={"spend": {"increment": 1}})
            await locked.wait()
            await tx.litellm_verificationtoken.update(where={"token": second}, data={"spend": {"increment": 1}})

    results = await asyncio.wait_for(asyncio.gather(one("t", "u"), one("u", "t"), return_exceptions=True), 30)
    failed = [result for result in results if result is not None]
    assert len(failed) == 1
    assert isinstance(failed[0], PrismaError)
    assert "deadlock" in str(failed[0]).lower()
    assert await spend(db) == 1


# PostgreSQL goes and comes back ------------------------------------------------------------------------------------


async def restart(server: Postgres) -> None:
    await asyncio.to_thread(server.restart)


async def test_a_restart_of_postgresql_while_idle_is_not_noticed(db: Any, server: Postgres) -> None:
    await asyncio.gather(*(spend(db) for _ in range(20)))
    engine = engine_process(db)
    await restart(server)
    assert await spend(db) == 0
    assert (engine_process(db).pid, engine.poll()) == (engine.pid, None)


async def test_a_restart_under_traffic_fails_some_queries_and_loses_none_that_were_answered(
    db: Any, server: Postgres
) -> None:
    engine = engine_process(db)
    answered = 0
    failures: list[Exception] = []
    stop = asyncio.Event()

    async def worker() -> None:
        nonlocal answered
        while not stop.is_set():
            try:
                if answered % 2:
                    await add(db, 1)
                else:
                    async with db.tx(max_wait=LONG, timeout=LONG) as tx:
                        await add(tx, 1)
                answered += 1
            except Exception as error:
                failures.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(worker())
        await wait_until_async(lambda: more_than(lambda: answered, 20), 20, "traffic")
        await restart(server)
        before = answered
        await wait_until_async(lambda: more_than(lambda: answered, before + 20), 20, "traffic after the restart")
        stop.set()

    assert await spend(db) >= answered, "an increment that was answered is not in the database"
    strange = [error for error in failures if not is_outage(error)]
    assert strange == []
    assert (engine_process(db).pid, engine.poll()) == (engine.pid, None)
    await wait_until_async(lambda: pool_is_idle(db), 10, "no connection to be lost")


async def test_postgresql_down_is_an_outage_in_litellms_words_and_ends_with_its_return(
    db: Any, server: Postgres
) -> None:
    await asyncio.to_thread(server.stop)
    try:
        for query in (lambda: spend(db), lambda: add(db, 1), lambda: db.query_raw("SELECT 1"), lambda: db.tx().start()):
            with pytest.raises(Exception, match="Can't reach database server") as raised:
                await query()
            assert is_outage(raised.value)
    finally:
        await asyncio.to_thread(server.start)
    assert await spend(db) == 0


async def test_a_connection_killed_in_a_transaction_is_replaced(db: Any) -> None:
    async def die() -> None:
        async with db.tx() as tx:
            await tx.query_raw("SELECT pg_terminate_backend(pg_backend_pid())")

    for _ in range(7):  # more than the pool holds
        with pytest.raises(Exception, match="Can't reach database server"):
            await die()
    assert await spend(db) == 0
    await wait_until_async(lambda: pool_is_idle(db), 10, "no connection to be lost")


async def test_an_engine_started_before_postgresql_works_once_it_is_there(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISMA_QUERY_ENGINE_BINARY", str(ENGINE))
    await asyncio.to_thread(server.stop)
    try:
        async with connected(server.url) as early:
            with pytest.raises(Exception, match="Can't reach database server"):
                await early.litellm_verificationtoken.count()
            await asyncio.to_thread(server.start)
            assert await early.litellm_verificationtoken.count() >= 0
    finally:
        if server._process is None:
            server.start()


async def more_than(count: Any, limit: int) -> bool:
    return bool(count() > limit)


def is_outage(error: Exception) -> bool:
    """As LiteLLM decides it: retry and answer 503, or refuse the key."""
    from litellm.proxy.db.exception_handler import PrismaDBExceptionHandler

    return PrismaDBExceptionHandler.is_database_service_unavailable_error(error)
