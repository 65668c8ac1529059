"""LiteLLM's database and the WebAssembly Prisma engine on it, for tests that use the real `prisma` client."""

import os
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from support.postgres import Postgres, running_postgres

ENGINE = Path(__file__).resolve().parents[2] / "litellm" / "embedded" / "prisma-engine" / "query-engine.js"
PACKAGES = Path(sysconfig.get_path("purelib"))
SCHEMA = PACKAGES / "litellm" / "proxy" / "schema.prisma"
MIGRATIONS = PACKAGES / "litellm_proxy_extras" / "migrations"


@contextmanager
def litellm_database(directory: Path) -> Iterator[Postgres]:
    """A PostgreSQL whose database `litellm` has LiteLLM's tables, empty."""
    with running_postgres(directory) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for migration in sorted(MIGRATIONS.glob("*/migration.sql")):
                connection.execute(migration.read_bytes())
        yield server


def clear(url: str, *tables: str) -> None:
    """Empty the tables (without their `LiteLLM_` prefix) and all that refer to them."""
    names = ", ".join(f'"LiteLLM_{table}"' for table in tables)
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        connection.execute(f"TRUNCATE {names} CASCADE".encode())


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """The generated client with an engine process of its own, which is gone afterwards."""
    # Imported here: it exists only once `prisma generate` has run
    from prisma import Prisma

    assert os.environ.get("PRISMA_QUERY_ENGINE_BINARY") == str(ENGINE), "the test must set PRISMA_QUERY_ENGINE_BINARY"
    client = Prisma(datasource={"url": url})
    await client.connect()
    try:
        yield client
    finally:
        process = engine_process(client)
        await client.disconnect()
        assert process.returncode is not None, "the engine outlived its client"


def engine_process(client: Any) -> "subprocess.Popen[bytes]":
    """The engine that the client started."""
    process: subprocess.Popen[bytes] = client._engine.process
    return process
