"""The state machine: the table of `gpu_server.states`, row by row."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_server.states import (
    FAILED_RETRY_S,
    STABLE_S,
    Action,
    Cause,
    Drain,
    Exited,
    Healthy,
    Observation,
    Phase,
    Restart,
    Resume,
    Snapshot,
    Stalled,
    Stop,
    Tick,
    backoff_s,
    step,
)  # fmt: skip

STARTING = Snapshot(phase=Phase.STARTING, generation=1, running=True)
READY = replace(STARTING, phase=Phase.READY, served=True, ready_since=0.0)


def test_it_starts_becomes_ready_and_counts_its_generation() -> None:
    begun = step(Snapshot(), Resume(), 0)
    assert (begun.snapshot, begun.action) == (STARTING, Action.SPAWN)
    assert not begun.snapshot.can_serve
    assert not begun.snapshot.recovering  # the first start: nobody is made to wait for it
    assert step(STARTING, Healthy(1), 0).snapshot == READY
    assert READY.can_serve


@pytest.mark.parametrize(("code", "cause"), [(1, Cause.EXIT), (0, Cause.EXIT), (-9, Cause.SIGNAL), (None, Cause.SPAWN)])
def test_an_exit_is_counted_and_followed_by_a_restart(code: int | None, cause: Cause) -> None:
    lost = step(READY, Exited(1, code), 100)
    assert (lost.snapshot.state, lost.lost_to, lost.snapshot.recovering) == ("restarting", cause, True)
    assert lost.snapshot.next_start == pytest.approx(100 + backoff_s(1, 0.5))
    early = step(lost.snapshot, Tick(), 100)
    assert early.action is None
    again = step(lost.snapshot, Tick(), 101)
    assert (again.snapshot.state, again.snapshot.generation, again.action) == ("starting", 2, Action.SPAWN)


def test_five_quick_deaths_are_a_failure_with_one_try_a_minute() -> None:
    snapshot, at = STARTING, 0.0
    for death in range(1, 6):
        lost = step(snapshot, Exited(snapshot.generation, 1), at).snapshot
        assert lost.state == ("failed" if death == 5 else "restarting")
        assert lost.next_start is not None
        last_wait_s, at = lost.next_start - at, lost.next_start
        snapshot = step(lost, Tick(), at).snapshot
        assert snapshot.state == "starting"
    assert last_wait_s == FAILED_RETRY_S
    assert step(snapshot, Exited(snapshot.generation, 1), at).snapshot.state == "failed"


def test_a_server_that_ran_well_starts_counting_anew() -> None:
    tired = replace(READY, quick_deaths=4)
    assert step(tired, Exited(1, -9), STABLE_S).snapshot.state == "restarting"
    assert step(tired, Exited(1, -9), STABLE_S - 1).snapshot.state == "failed"


def test_a_stall_is_killed_and_counted_under_its_cause() -> None:
    stalled = step(READY, Stalled(1, Cause.POLL_TIMEOUT), 100)
    assert (stalled.snapshot.state, stalled.action) == ("restarting", Action.KILL)
    assert step(stalled.snapshot, Stalled(1, Cause.NO_PROGRESS), 100).action is None
    assert step(stalled.snapshot, Healthy(1), 100).snapshot.state == "restarting"
    gone = step(stalled.snapshot, Exited(1, -9), 100)
    assert (gone.lost_to, gone.snapshot.running) == (Cause.POLL_TIMEOUT, False)


def test_a_requested_restart_is_no_quick_death() -> None:
    asked = step(READY, Restart(), 1)
    assert (asked.snapshot.state, asked.action) == ("restarting", Action.TERMINATE)
    gone = step(asked.snapshot, Exited(1, -15), 2)
    assert (gone.lost_to, gone.snapshot.quick_deaths, gone.snapshot.next_start) == (Cause.REQUESTED, 0, 2)


def test_a_restart_wakes_a_failed_server_at_once() -> None:
    failed = Snapshot(phase=Phase.FAILED, generation=5, quick_deaths=5, next_start=60)
    again = step(failed, Restart(), 1)
    assert (again.action, again.snapshot.quick_deaths) == (Action.SPAWN, 0)


def test_drain_refuses_work_but_keeps_the_server_and_resume_ends_it() -> None:
    draining = step(READY, Drain(), 0)
    assert (draining.snapshot.state, draining.snapshot.can_serve, draining.action) == ("draining", False, None)
    assert step(draining.snapshot, Resume(), 0).snapshot == READY


def test_stop_ends_it_and_nothing_follows() -> None:
    stopping = step(step(READY, Drain(), 0).snapshot, Stop(), 0)
    assert (stopping.snapshot.state, stopping.action) == ("draining", Action.TERMINATE)
    gone = step(stopping.snapshot, Exited(1, -15), 1)
    assert (gone.snapshot.state, gone.lost_to, gone.snapshot.next_start) == ("stopped", None, None)
    assert step(gone.snapshot, Tick(), 1000).action is None


def test_resume_during_a_stop_starts_the_next_one_when_the_old_is_gone() -> None:
    stopping = step(READY, Stop(), 0).snapshot
    resumed = step(stopping, Resume(), 0)
    assert (resumed.snapshot.state, resumed.action) == ("restarting", None)
    gone = step(resumed.snapshot, Exited(1, -15), 1).snapshot
    assert step(gone, Tick(), 1).action is Action.SPAWN


@pytest.mark.parametrize("late", [Healthy(1), Exited(1, -9), Stalled(1, Cause.NO_PROGRESS)])
def test_news_of_an_older_generation_changes_nothing(late: Observation) -> None:
    present = replace(READY, generation=2)
    assert step(present, late, 0).snapshot == present


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 50))
def test_backoff_grows_within_bounds(chance: float, deaths: int) -> None:
    assert 0.15 <= backoff_s(deaths, chance) <= 19
    assert backoff_s(deaths, chance) <= backoff_s(deaths + 1, chance)


observations = st.one_of(
    st.builds(Healthy, st.integers(0, 3)), st.builds(Exited, st.integers(0, 3), st.sampled_from([None, 0, 1, -9])),
    st.builds(Stalled, st.integers(0, 3), st.sampled_from(Cause)), st.just(Tick()), st.just(Drain()),
    st.just(Resume()), st.just(Restart()), st.just(Stop()),
)  # fmt: skip


@given(st.lists(observations, max_size=40))
def test_whatever_is_seen_at_most_one_process_runs_and_none_is_forgotten(seen: list[Observation]) -> None:
    snapshot, at = Snapshot(), 0.0
    for observation in seen:
        at += 1
        outcome = step(snapshot, observation, at)
        if outcome.action is Action.SPAWN:
            assert not snapshot.running
            assert outcome.snapshot.generation == snapshot.generation + 1
        if outcome.action in (Action.KILL, Action.TERMINATE):
            assert snapshot.running
        snapshot = outcome.snapshot
        if snapshot.phase is Phase.READY:
            assert snapshot.running
        if snapshot.phase in (Phase.RESTARTING, Phase.FAILED) and not snapshot.running:
            assert snapshot.next_start is not None  # it comes back by itself
