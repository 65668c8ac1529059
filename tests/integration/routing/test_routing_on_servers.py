"""Routing on real servers: two gpu-servers behind LiteLLM with two workers, which share nothing but what they tell."""

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from corral.farm import servers_of
from corral.render.litellm import config
from support.gate_without_keys import MASTER_KEY, gate_without_keys
from support.gpu_servers import GpuServer
from support.random_farms import farm_of
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

FARM = """
hosts: {{box: {{}}}}
models:
  chat: {{source: {{hub: o/r, file: m.gguf}}}}
servers:
  - {{model: chat, host: box, count: 2, ports: [{}, {}]}}
"""
STORY = (
    "The old lighthouse keeper counted the ships that passed in the night and wrote down each of their names. " * 20
)  # long enough that reading it again costs more than any other doubt
TURNS, MOST_TURNS = 10, 40


@dataclass
class Gate:
    """LiteLLM's address, and the servers behind it by the name it knows them by."""

    url: str
    servers: dict[str, GpuServer]

    def chat(self, messages: list[dict[str, str]], **more: Any) -> httpx.Response:
        """Ask on a connection of its own, so that any worker may get it."""
        with httpx.Client(trust_env=False, timeout=120) as client:
            return client.post(
                f"{self.url}/v1/chat/completions",
                headers={"authorization": f"Bearer {MASTER_KEY}", "x-corral-explain": "1"},
                json={"model": "chat", "messages": messages, "max_tokens": 8, "temperature": 0, **more},
            )

    def believes(self) -> dict[str, Any]:
        """Return /corral/routing of the worker that answers."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = client.get(f"{self.url}/corral/routing", headers={"authorization": f"Bearer {MASTER_KEY}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def workers(self) -> dict[int, dict[str, Any]]:
        """Return what each of the two workers believes."""
        found: dict[int, dict[str, Any]] = {}

        def both() -> bool:
            told = self.believes()
            found[told["worker"]] = told
            return len(found) == 2

        wait_until(both, 30, "both workers to answer")
        return found

    def all_ready(self) -> bool:
        """Say whether both workers believe both servers ready."""
        believed = [one["standing"] for worker in self.workers().values() for one in worker["servers"].values()]
        return believed == ["ready"] * 4


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("routing")
    with (
        GpuServer(folder / "1.log", SERVER_NAME="chat-1", MAX_QUEUE=1) as one,
        GpuServer(folder / "2.log", SERVER_NAME="chat-2", MAX_QUEUE=1) as other,
    ):
        farm = farm_of(FARM.format(one.port, other.port), folder)
        servers = servers_of(farm)
        with gate_without_keys(folder / "gate", config(farm, servers), workers=2) as url:
            gate = Gate(url, {server.name: one if server.port == one.port else other for server in servers})
            one.ready()
            other.ready()
            wait_until(gate.all_ready, 60, "both workers to know both servers")
            yield gate


def grown(gate: Gate, name: str, turns: int) -> Iterator[httpx.Response]:
    """Hold a conversation of so many turns, a story first; give each answer."""
    messages = [{"role": "user", "content": f"{name}: {STORY}"}]
    for turn in range(turns):
        answer = gate.chat(messages)
        assert answer.status_code == 200, answer.text
        yield answer
        said = answer.json()["choices"][0]["message"]["content"]
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": f"Tell part {turn} of it."}]


def cached(answer: httpx.Response) -> int:
    return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_chat_of_ten_turns_stays_on_one_server_and_finds_ever_more_in_its_cache(gate: Gate) -> None:
    turns = grown(gate, "Ann", MOST_TURNS)
    answers = list(itertools.islice(turns, TURNS))
    while not all(worker["latest"] for worker in gate.workers().values()):
        answers.append(next(turns))  # one worker chose for all so far, by chance: nothing is shown of two
    told = [(answer.headers["x-corral-server"], answer.headers["x-corral-routing"]) for answer in answers]
    assert len({server for server, _ in told}) == 1, told
    assert all("timings" in answer.json() for answer in answers)  # the fast path's answers are llama-server's own
    found = [cached(answer) for answer in answers]
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    asked = [answer.json()["usage"]["prompt_tokens"] for answer in answers]
    assert all(asked[turn] - found[turn] < 60 for turn in range(1, len(found)))  # the new message, and little else
    assert answers[-1].headers["x-corral-routing"].startswith(answers[-1].headers["x-corral-server"])


def test_chats_at_the_same_time_spread(gate: Gate) -> None:
    with ThreadPoolExecutor(4) as pool:
        chats = list(pool.map(lambda name: list(grown(gate, name, 2)), ("Bea", "Cai", "Dov", "Eli")))
    homes = Counter(answer.headers["x-corral-server"] for answers in chats for answer in answers)
    assert set(homes) == set(gate.servers)


def test_only_the_admin_sees_what_the_router_believes_and_prometheus_its_metrics(gate: Gate) -> None:
    with httpx.Client(trust_env=False, timeout=30) as client:
        assert client.get(f"{gate.url}/corral/routing").status_code == 401
        assert client.get(f"{gate.url}/corral/routing", headers={"authorization": "Bearer sk-no"}).status_code >= 400
        assert client.get(f"{gate.url}/corral/metrics").status_code == 401
        metrics = client.get(f"{gate.url}/corral/metrics", headers={"authorization": f"Bearer {MASTER_KEY}"})
    assert "corral_routing_report_age_seconds" in metrics.text


async def test_when_all_servers_are_full_one_answer_says_so_and_when_to_come_again(gate: Gate) -> None:
    def each_has(requests: int) -> bool:
        believed = [one["requests"] for worker in gate.workers().values() for one in worker["servers"].values()]
        return believed == [requests] * 4

    async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
        held = [asyncio.create_task(hold(client, gate.url, n)) for n in range(6)]  # on each two slots, one in line
        try:
            await asyncio.to_thread(wait_until, lambda: each_has(3), 30, "both workers to believe both servers full")
            refused = await asyncio.to_thread(gate.chat, [{"role": "user", "content": "May I?"}])
        finally:
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)
    await asyncio.to_thread(wait_until, lambda: each_has(0), 60, "both workers to see that all have left")
    assert refused.status_code == 429, refused.text
    assert int(refused.headers["retry-after"]) >= 1
    assert "every server of 'chat' is full" in refused.json()["error"]["message"]


async def hold(client: httpx.AsyncClient, url: str, number: int) -> None:
    """Take a place with long streams, one after the other, until cancelled."""
    body = {
        "model": "chat", "stream": True, "max_tokens": 1500, "ignore_eos": True,
        "messages": [{"role": "user", "content": f"Count from {number}."}],
    }  # fmt: skip
    while True:  # the one that was refused, where the two workers chose at the same moment, comes again
        await client.post(f"{url}/v1/chat/completions", headers={"authorization": f"Bearer {MASTER_KEY}"}, json=body)


def test_a_killed_server_fails_no_request_loses_its_chat_and_comes_back_within_2_s_of_ready(gate: Gate) -> None:
    turns = grown(gate, "Fay", 6)
    first = [next(turns), next(turns)]
    home = first[-1].headers["x-corral-server"]
    server = gate.servers[home]
    with ThreadPoolExecutor(3) as pool:
        asked = [{"role": "user", "content": f"{STORY} Which ship was number {number}?"} for number in range(3)]
        load = [pool.submit(gate.chat, [one], max_tokens=100, ignore_eos=True) for one in asked]
        wait_until(lambda: server.status()["busy"], 30, "the server to have work")
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        answers = [one.result() for one in load]
    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    moved = [next(turns), next(turns), next(turns)]
    assert {answer.headers["x-corral-server"] for answer in moved} == set(gate.servers) - {home}
    tokens = [answer.json()["usage"]["prompt_tokens"] for answer in moved]
    assert cached(moved[0]) < 60  # read once more
    assert all(tokens[turn] - cached(moved[turn]) < 60 for turn in (1, 2))

    server.__enter__()
    server.ready()
    ready = time.monotonic()
    wait_until(gate.all_ready, 10, "both workers to use it again")
    assert time.monotonic() - ready < 5  # 2 s, and as many answers of the gate as it takes to hear both workers
