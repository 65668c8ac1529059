"""LiteLLM's schema on a real PostgreSQL, behind the real Prisma client and our engine."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from support.engine import ENGINE, clear, connected, litellm_database

TABLES = (
    "BudgetTable",
    "VerificationToken",
    "TeamTable",
    "ModelTable",
    "TeamMembership",
    "OrganizationTable",
    "SpendLogs",
    "CronJob",
    "ManagedFileContentTable",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with litellm_database(tmp_path_factory.mktemp("engine")) as server:
        yield server.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(url: str) -> AsyncIterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMA_QUERY_ENGINE_BINARY", str(ENGINE))
        async with connected(url) as client:
            yield client


@pytest.fixture
def db(client: Any, url: str) -> Any:
    """The client, on empty tables."""
    clear(url, *TABLES)
    return client
