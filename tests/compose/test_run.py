"""The farm in containers: it comes up in order and answers; then it is broken, in one way after the other."""

import hashlib
import json
import re
import signal
import time
from datetime import datetime
from pathlib import Path

import psutil

from support.compose_farm import SERVERS, ContainerFarm, Gate, Load, lost, server_health, stopwatch
from support.compose_table import Tell
from support.waiting import wait_until

MOST_WRAPPER_MIB = 90
EATER = "import time; hoard = [bytearray(1 << 20) for _ in range(900)]; time.sleep(20)"


def test_it_comes_up_one_server_after_the_other(farm: ContainerFarm, tell: Tell) -> None:
    tell("`compose up --wait` of both projects, three servers", f"healthy after {farm.up_s:.0f} s")
    begun = {}
    for name in SERVERS:
        state = farm.gpu_box.inspect(name)["State"]
        whole, _, fraction = state["StartedAt"].removesuffix("Z").partition(".")  # nanoseconds, without ending zeros
        begun[name] = datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")
        assert state["Health"]["Status"] == "healthy"
    ready = {name: first_ready(farm.gpu_box.logs(name)) for name in SERVERS}
    assert begun["qwen-1"] < ready["qwen-1"] < begun["qwen-2"] < ready["qwen-2"] < begun["nomic-embed-1"]


def first_ready(log: str) -> datetime:
    """Return when a server had its model loaded. The engine's own events are too many to be kept on a slow machine."""
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return next(datetime.fromisoformat(each["time"]) for each in events if each.get("state") == "ready")


def test_chat_stream_and_embeddings_are_answered_through_the_gate(farm: ContainerFarm) -> None:
    answer = farm.gate.chat().raise_for_status()
    assert answer.json()["usage"]["completion_tokens"] == 8
    assert answer.headers["x-corral-server"] in SERVERS
    with farm.gate.stream("Count to ten.", 12) as events:
        parts = list(events)
    assert parts[-1] == {"done": True}
    assert len([part for part in parts if part.get("choices") and part["choices"][0]["delta"].get("content")]) > 3
    vectors = farm.gate.post("/v1/embeddings", {"model": "embed", "input": ["one", "two"]}).raise_for_status().json()
    assert [len(each["embedding"]) for each in vectors["data"]] == [384, 384]


def test_no_key_no_answer(farm: ContainerFarm) -> None:
    assert Gate("sk-nobody").chat().status_code == 401


def test_a_server_runs_as_nobody_in_particular_and_can_write_nowhere_but_tmp(farm: ContainerFarm) -> None:
    for name in SERVERS:
        for process in (farm.gpu_box.wrapper(name), farm.gpu_box.llama_server(name)):
            assert process.uids().real == 10001
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(r"CapEff:\s+0+\n", status)
            assert re.search(r"CapBnd:\s+0+\n", status)
            assert re.search(r"NoNewPrivs:\s+1\n", status)
        container = farm.gpu_box.container(name)
        write = "touch /models/x /opt/x /x 2>/dev/null || touch /tmp/x && echo only-tmp"
        assert farm.host.docker("exec", container, "sh", "-c", write).stdout == "only-tmp\n"


def test_the_wrapper_is_small_and_idle(farm: ContainerFarm, tell: Tell) -> None:
    wrapper = farm.gpu_box.wrapper("nomic-embed-1")
    memory_mib = wrapper.memory_full_info().uss / 2**20
    before = sum(wrapper.cpu_times()[:2])
    interval_s = 5
    time.sleep(interval_s)  # a rate needs an interval
    busy = (sum(wrapper.cpu_times()[:2]) - before) / interval_s
    tell("a wrapper at rest", f"{memory_mib:.0f} MiB, {busy:.1%} of a core")
    assert memory_mib < MOST_WRAPPER_MIB


def test_kill_of_llama_server_under_load(farm: ContainerFarm, tell: Tell) -> None:
    with Load(farm.gate) as load:
        restarted = farm.gpu_box.inspect("qwen-1")["RestartCount"]
        victim = farm.gpu_box.llama_server("qwen-1")
        with stopwatch() as taken:
            victim.send_signal(signal.SIGKILL)
            wait_until(lambda: serves_again("qwen-1", victim), 60, "a new llama-server", 0.1)
        load.wait_for_more()
    assert farm.gpu_box.inspect("qwen-1")["RestartCount"] == restarted  # within the container
    tell("`kill -9` of llama-server, 2 clients", f"serves again after {taken[0]:.1f} s", lost(load))
    assert load.failures == []


def test_stop_of_llama_server(farm: ContainerFarm, tell: Tell) -> None:
    """SIGSTOP: it is there, holds its port, and does nothing."""
    with Load(farm.gate) as load:
        victim = farm.gpu_box.llama_server("qwen-1")
        with stopwatch() as taken:
            victim.send_signal(signal.SIGSTOP)
            wait_until(lambda: serves_again("qwen-1", victim), 60, "a new llama-server", 0.1)
        load.wait_for_more()
    assert '"no_progress"' in farm.gpu_box.logs("qwen-1") or '"poll_timeout"' in farm.gpu_box.logs("qwen-1")
    tell("SIGSTOP of llama-server, STALL_TIMEOUT_S=6", f"serves again after {taken[0]:.1f} s", lost(load))
    assert load.failures == []


def test_kill_of_the_wrapper(farm: ContainerFarm, tell: Tell) -> None:
    """Its llama-server goes with it, its container ends, and the engine starts that again."""
    farm.wait_until_healthy()
    with Load(farm.gate) as load:
        llama_server, wrapper = farm.gpu_box.llama_server("qwen-2"), farm.gpu_box.wrapper("qwen-2")
        with stopwatch() as taken:
            wrapper.kill()
            wait_until(lambda: not llama_server.is_running(), 10, "llama-server to go with its wrapper")
            wait_until(lambda: serves_again("qwen-2", llama_server), 60, "a new container", 0.1)
        load.wait_for_more()
    tell("`kill -9` of the wrapper, 2 clients", f"serves again after {taken[0]:.1f} s", lost(load))
    assert load.failures == []


def test_memory_overrun_stays_in_its_container(farm: ContainerFarm, tell: Tell) -> None:
    container = farm.gpu_box.container("nomic-embed-1")
    llama_server, wrapper = farm.gpu_box.llama_server("nomic-embed-1"), farm.gpu_box.wrapper("nomic-embed-1")
    with Load(farm.gate) as load, stopwatch() as taken:
        done = farm.host.docker("exec", container, "python3", "-c", EATER, check=False)
        assert done.returncode == 137
        assert not llama_server.is_running()
        wait_until(lambda: serves_again("nomic-embed-1", llama_server), 60, "a new llama-server", 0.1)
    assert wrapper.is_running()
    tell("a container over its memory limit", f"llama-server killed, serves again {taken[0]:.1f} s after", lost(load))
    assert load.failures == []
    farm.gate.post("/v1/embeddings", {"model": "embed", "input": "again"}).raise_for_status()


def test_restart_of_postgres_under_load(farm: ContainerFarm, tell: Tell) -> None:
    with Load(farm.gate) as load:
        with stopwatch() as taken:
            farm.gate_host.compose("restart", "postgres")
            wait_until(lambda: Gate().make_key(), 60, "a new key", 0.2)
        load.wait_for_more()
    tell("`compose restart postgres`, 2 clients", f"a new key can be made after {taken[0]:.1f} s", lost(load))
    assert load.failures == []
    farm.gate.chat().raise_for_status()


def test_compose_restart_of_one_server_under_load(farm: ContainerFarm, tell: Tell) -> None:
    farm.wait_until_healthy()
    with Load(farm.gate, clients=4) as load:
        with farm.gate.stream("Count as far as you can.", 150) as events:
            next(events)
            with stopwatch() as taken:
                farm.gpu_box.compose("restart", "--no-deps", "qwen-1")
                wait_until(lambda: farm.gpu_box.is_healthy("qwen-1"), 60, "qwen-1 to be healthy", 0.1)
            rest = list(events)
        load.wait_for_more()
    tell("`compose restart` of one server, 4 clients and a stream", f"healthy again after {taken[0]:.1f} s", lost(load))
    assert rest[-1] == {"done": True}
    assert load.failures == []


def test_restart_of_the_engine_as_at_a_reboot(farm: ContainerFarm, tell: Tell) -> None:
    key = farm.gate.key
    with stopwatch() as stopping:
        farm.host.stop()
    assert not [p for p in psutil.process_iter(["cmdline"]) if "gpu_server.embedded" in (p.info["cmdline"] or [])]
    with stopwatch() as taken:
        farm.host.start()
        farm.wait_until_healthy()
    farm.gate.chat().raise_for_status()
    listed = Gate().list_keys()
    tell(
        "stop and start of the engine",
        f"stopped in {stopping[0]:.0f} s, all healthy {taken[0]:.0f} s after",
        "keys kept",
    )
    assert hashed(key) in listed


def hashed(key: str) -> str:
    """Return LiteLLM's name for a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def serves_again(service: str, before: psutil.Process) -> bool:
    """Whether another llama-server than `before` serves there, as the wrapper says it."""
    if before.is_running() and before.status() != psutil.STATUS_ZOMBIE:
        return False
    return server_health(service) == 200
