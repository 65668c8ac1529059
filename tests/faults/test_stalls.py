"""llama-server runs but does not work: it is noticed within STALL_TIMEOUT_S + 5 s, killed and replaced."""

import concurrent.futures
import signal
import time

import pytest

from support.fake_llama import FakeLlama
from support.faults import STALL_SLACK_S, Table, ask, ask_many, first_state, losses, results
from support.gpu_servers import GpuServer
from support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration]

Pool = concurrent.futures.Executor
Broken = tuple[GpuServer, FakeLlama]
WITHIN_S = 3 + STALL_SLACK_S


def test_sigstop_idle(real: GpuServer, table: Table) -> None:
    with table.fault("SIGSTOP, idle", real, cause="poll_timeout", within_s=WITHIN_S) as fault:
        real.child().suspend()
        wait_until(lambda: real.state() != "ready", WITHIN_S, "it to be noticed")
        fault.saw = [ask(real)]
    assert fault.saw == ["200"]


def test_sigstop_under_load(real: GpuServer, table: Table, pool: Pool) -> None:
    asked = ask_many(pool, real, 4, max_tokens=150, ignore_eos=True)
    wait_until(lambda: real.status()["busy"] == 4, 5, "work")
    with table.fault("SIGSTOP under 4 requests", real, cause="no_progress|poll_timeout", within_s=WITHIN_S) as fault:
        real.child().suspend()
        fault.saw = results(asked)
    assert set(fault.saw) <= {"200", "200, stream", "stream, error event upstream_died"}


@pytest.mark.parametrize("where", ["prefill", "decode"])
def test_a_stall_while_health_and_slots_answer(fake: Broken, table: Table, pool: Pool, where: str) -> None:
    server, llama = fake
    llama.set(token_s=0.02, stall=where)
    with table.fault(
        f"stalls in {where}; /health and /slots answer", server, cause="no_progress", within_s=WITHIN_S
    ) as fault:
        asked = ask_many(pool, server, 4, max_tokens=20)
        wait_until(lambda: llama.seen()["busy"] == 4, 5, "work")
        fault.blow()
        fault.saw = results(asked)
    assert fault.saw[::2] == ["200", "200"]


@pytest.mark.parametrize("routes", [["/slots"], ["/slots", "/metrics"], ["*"]], ids=["slots", "both", "all"])
def test_slots_hangs(fake: Broken, table: Table, routes: list[str]) -> None:
    server, llama = fake
    names = "every route hangs" if routes == ["*"] else f"{' and '.join(routes)} hang while /health says ok"
    with table.fault(names, server, cause="poll_timeout", within_s=WITHIN_S) as fault:
        llama.set(hang=routes)
        wait_until(lambda: server.state() != "ready", WITHIN_S, "it to be noticed")
        fault.saw = [ask(server)]
    assert fault.saw == ["200"]


def test_leaked_slots_end_in_a_restart_and_answers(fake: Broken, table: Table, pool: Pool) -> None:
    server, llama = fake
    llama.set(leak_slots=True)
    assert results(ask_many(pool, server, 4)) == ["200", "200, stream"] * 2
    assert llama.seen()["busy"] == 4
    with table.fault("all its slots leaked; a request comes", server, cause="no_progress", within_s=WITHIN_S) as fault:
        fault.saw = [ask(server)]
    assert fault.saw == ["200"]


def test_slots_answered_late_is_no_stall(fake: Broken, table: Table, pool: Pool) -> None:
    server, llama = fake
    with table.fault("/slots takes 2 s to answer", server, cause=None) as fault:
        llama.set(slots_delay_s=2.0, token_s=0.05)
        fault.saw = results(ask_many(pool, server, 4, max_tokens=100))  # 5 s, longer than STALL_TIMEOUT_S
    assert fault.saw == ["200", "200, stream"] * 2
    llama.set(slots_delay_s=0, token_s=0)


def test_a_long_prefill_is_no_stall(fake: Broken, table: Table, pool: Pool) -> None:
    server, llama = fake
    with table.fault("reads a prompt for 5 s", server, cause=None) as fault:
        llama.set(prefill_s=5.0)
        fault.saw = results(ask_many(pool, server, 2))
    assert fault.saw == ["200", "200, stream"]
    llama.set(prefill_s=0)


def test_a_start_that_does_nothing(fake: Broken, table: Table) -> None:
    server, llama = fake
    before, generation = losses(server), server.status()["generation"]
    llama.plan("--start-s", "3600")
    llama.end(signal=signal.SIGKILL)
    wait_until(lambda: server.status()["generation"] == generation + 1, 10, "the start that hangs")
    at = time.time()
    llama.plan()
    wait_until(lambda: server.state() == "ready", 2 * WITHIN_S, "the start after it")
    noticed = first_state(server, at, lambda line: line.get("lost_to") == "no_progress")
    assert losses(server) - before == {"signal": 1, "no_progress": 1}
    assert noticed is not None
    table.add(
        "a start hangs (no CPU time, no reading, for 2 x STALL_TIMEOUT_S)", "fake", ask(server),
        detected_s=noticed - at, ready_s=time.time() - at, restarts="no_progress 1",
    )  # fmt: skip
