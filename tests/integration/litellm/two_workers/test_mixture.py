"""Thousands of requests of every kind, some of whose clients leave at random: each has its row, and nothing stays.

They go to two workers, which PostgreSQL leaves for a while. `make test-mixture` sends 10,000; the suite sends 300.
"""

import asyncio
import os
import random
import re
import threading
from collections import Counter

import httpx
import pytest

from support.fake_servers import EMBEDDING_USAGE, PROMPT_TOKENS, WORDS, FakeServers
from support.gate import Gate
from support.two_workers import WAYS, TwoWorkers
from support.waiting import wait_until

REQUESTS = int(os.environ.get("MIXTURE_REQUESTS", "300"))
DURING_A_RESTART = 80
"""How many of them are sent while PostgreSQL restarts: the keys are known to LiteLLM by then, the rows wait."""
AT_A_TIME = 12
NAME = re.compile(r'"id": ?"([a-z]+-fake-\d+)"')

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(200 + REQUESTS // 5),
    # LiteLLM's own way keeps neither: docs/fast-path.md.
    pytest.mark.parametrize("workers", [way for way in WAYS if way.startswith("fast")], indirect=True),
]

MESSAGES = [{"role": "user", "content": "Name a colour."}]
CHAT = {"model": "chat", "messages": MESSAGES}
KINDS = (
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/chat/completions", {**CHAT, "stream": True, "pace_s": 0.02}),
    ("/v1/completions", {"model": "chat", "prompt": "The sky is", "stream": True}),
    ("/v1/embeddings", {"model": "embed", "input": "a"}),
    ("/v1/messages", {**CHAT, "max_tokens": 9, "stream": True}),
    ("/v1/chat/completions", {**CHAT, "model": "flaky"}),
)


class Mixture:
    """Sends requests, and keeps count of what became of them."""

    def __init__(self, gate: Gate, key: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self.names: set[str] = set()
        """The ids of the answers that came whole: their rows'."""
        self.refused = 0
        self._database_restarts = False
        self._chance = random.Random(20)  # the same mixture each time
        self._gate = gate
        self._headers = {"Authorization": f"Bearer {key}"}

    async def send(self, requests: int, *, database_restarts: bool = False) -> None:
        """Send so many. Only while the database restarts may some be refused: those whose key LiteLLM looks up then."""
        self._database_restarts = database_restarts
        gone = asyncio.Semaphore(AT_A_TIME)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._gate.url, trust_env=False, timeout=60, limits=limits) as client:

            async def one() -> None:
                async with gone:
                    await self._one(client)

            await asyncio.gather(*(one() for _ in range(requests)))

    async def _one(self, client: httpx.AsyncClient) -> None:
        path, body = self._chance.choice(KINDS)
        patience = self._chance.uniform(0.0, 0.15) if self._chance.random() < 0.2 else None
        try:
            async with asyncio.timeout(patience):
                answer = await client.post(path, json=body, headers=self._headers)
                while self._database_restarts and answer.status_code == 503 and "no_db_connection" in answer.text:
                    self.refused += 1
                    await asyncio.sleep(0.5)  # as it asks for
                    answer = await client.post(path, json=body, headers=self._headers)
        except TimeoutError:
            self.outcomes["left"] += 1
            return
        assert answer.status_code == 200, answer.text
        if body.get("stream"):
            assert "[DONE]" in answer.text or "message_stop" in answer.text
        self.outcomes["embedding" if body["model"] == "embed" else "chat"] += 1
        named = NAME.search(answer.text)
        self.names.add(named[1] if named else answer.headers["x-litellm-call-id"])


def test_rows_and_tokens_are_exact_and_nothing_stays(workers: TwoWorkers, servers: FakeServers) -> None:
    gate = workers.gate
    key = gate.new_key(key_alias="mixture", max_parallel_requests=2 * AT_A_TIME)
    mixture = Mixture(gate, key)
    asyncio.run(mixture.send(REQUESTS - DURING_A_RESTART))
    sending = threading.Thread(target=lambda: asyncio.run(mixture.send(DURING_A_RESTART, database_restarts=True)))
    sending.start()  # not the restart: PostgreSQL ends with the thread that started it
    workers.database.restart()
    sending.join(60)
    print(f"{mixture.outcomes}; refused without a database: {mixture.refused}")
    check(workers, mixture)
    wait_until(lambda: not any(servers.open.values()), 5, "the servers to be let go")


def check(workers: TwoWorkers, mixture: Mixture) -> None:
    gate, outcomes = workers.gate, mixture.outcomes
    assert sum(outcomes.values()) == REQUESTS
    whole = outcomes["chat"] + outcomes["embedding"]
    assert len(mixture.names) == whole < REQUESTS  # some have left
    patience_s = 60 + REQUESTS / 50
    wait_until(lambda: not gate.without_row("mixture", mixture.names), patience_s, "a row for each answer", 1)
    workers.wait_idle(30)
    rows = [row for row in gate.rows("mixture") if code_of(row) != "503"]
    assert len(rows) <= REQUESTS  # who leaves before the gate has read the request leaves no row
    left = [row for row in rows if departed(row)]
    answered = [row for row in rows if not departed(row)]
    assert len(answered) + len(left) == len(rows)
    assert len({row["request_id"] for row in rows}) == len(rows)
    kinds = Counter((row["prompt_tokens"], row["completion_tokens"]) for row in answered)
    assert set(kinds) == {(PROMPT_TOKENS, WORDS), (EMBEDDING_USAGE["prompt_tokens"], 0)}
    # An answer may be whole at the gate when its client leaves.
    assert outcomes["chat"] <= kinds[PROMPT_TOKENS, WORDS] <= outcomes["chat"] + outcomes["left"]
    assert (
        outcomes["embedding"] <= kinds[EMBEDDING_USAGE["prompt_tokens"], 0] <= outcomes["embedding"] + outcomes["left"]
    )
    assert all(row["completion_tokens"] <= WORDS + 1 for row in left)
    wait_until(lambda: workers.places() == [], 15, "all places to be free")


def departed(row: dict[str, object]) -> bool:
    return code_of(row) == "499"


def code_of(row: dict[str, object]) -> object:
    metadata = row["metadata"]
    assert isinstance(metadata, dict)
    return (metadata.get("error_information") or {}).get("error_code")
