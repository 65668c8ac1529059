import pytest

from corral_routing.reports import Load
from corral_routing.servers import FRESH_S, FULL_S, LONGEST_WAIT_S, STALE_S, Server, Standing
from support.routing import status


def server(busy: int = 0, queued: int = 0, at: float = 100.0) -> Server:
    one = Server("chat-1")
    one.reported(status(busy, queued), at, at)
    return one


def test_one_that_nobody_heard_of_is_unknown() -> None:
    one = Server("chat-1")
    assert one.standing(0) is Standing.UNKNOWN
    assert one.confidence(0) == 0


@pytest.mark.parametrize("state", ["draining", "failed", "stopped"])
def test_one_that_says_it_cannot_gets_nothing(state: str) -> None:
    one = server()
    one.reported(status(state=state), 101, 101)
    assert one.standing(101) is Standing.OUT
    assert state in one.reason


@pytest.mark.parametrize("state", ["starting", "restarting"])
def test_one_that_comes_back_is_recovering(state: str) -> None:
    one = server()
    one.reported(status(state=state), 101, 101)
    assert one.standing(101) is Standing.RECOVERING


def test_a_report_fades_into_unknown() -> None:
    one = server(busy=3)
    assert one.confidence(100 + FRESH_S) == 1
    assert 0 < one.confidence(100 + (FRESH_S + STALE_S) / 2) < 1
    assert one.confidence(100 + STALE_S) == 0
    assert one.standing(100 + STALE_S + 0.1) is Standing.UNKNOWN


def test_a_clock_that_was_put_back_makes_nothing_worse() -> None:
    one = server(busy=3)
    assert one.confidence(50) == 1
    assert one.standing(50) is Standing.READY
    assert one.requests() == 3


def test_own_requests_since_the_report_count() -> None:
    one = server(busy=1)
    one.sent("a", 100.2, 500)
    one.sent("b", 100.3, 500)
    assert one.requests() == 3
    one.ended("a", 101)
    assert one.requests() == 2
    one.reported(status(busy=2), 101, 101)
    assert one.requests() == 2


def test_own_requests_in_the_report_count_no_more_once_they_ended() -> None:
    one = server()
    one.sent("a", 100.2, 500)
    one.reported(status(busy=1), 101, 101)
    assert one.requests() == 1
    one.ended("a", 101.5)
    assert one.requests() == 0


def test_a_request_on_its_way_when_the_report_was_made_counts() -> None:
    one = server()
    one.sent("a", 100.99, 500)
    one.reported(status(busy=0), 101, 101)
    assert one.requests() == 1


def test_a_request_that_never_ends_for_us_is_gone_with_the_next_report() -> None:
    one = server()
    one.sent("left", 100.2, 500)
    one.reported(status(busy=0), 102, 102)
    assert one.requests() == 0


def test_a_request_that_ended_while_a_report_was_on_its_way_counts_no_more() -> None:
    one = server()
    one.sent("a", 100.2, 500)
    one.ended("a", 101.3)
    one.reported(status(busy=1), 101, 101.5)
    assert one.requests() == 0
    one.reported(status(busy=1), 102, 102.1)  # of somebody else's
    assert one.requests() == 1


def test_an_answer_between_two_late_polls_shows_that_it_lives() -> None:
    one = server()
    one.sent("a", 100.1, 500)
    one.late("late")
    one.ended("a", 100.7)
    one.late("late")
    assert one.standing(101) is Standing.READY
    one.late("late")
    assert one.standing(101) is Standing.OUT


def test_an_answers_headers_count_the_answer() -> None:
    one = server()
    one.sent("a", 100.0, 500)
    one.began("a", Load(busy=3, queued=1, slots=4), 100.01)
    assert one.requests() == 4
    one.ended("a", 100.02)
    assert one.requests() == 3


def test_a_report_overtaken_by_a_later_one_is_dropped() -> None:
    one = server()
    one.began("x", Load(busy=4, queued=0, slots=4), 103)
    one.reported(status(busy=0), 102, 104)
    assert one.requests() == 4


def test_prompts_under_way_are_read_with_time() -> None:
    one = server()
    one.sent("a", 100, 1000)
    assert one.prefill_ahead(100) == 1000
    assert one.prefill_ahead(100.5) == 500
    assert one.prefill_ahead(200) == 0


def test_one_that_refused_is_full_until_it_reports() -> None:
    one = server()
    one.sent("a", 100.1, 10)
    assert not one.is_full(100.2)
    one.refused("a", 100.2)
    assert one.is_full(100.3)
    assert not one.is_full(100.3 + FULL_S)
    one.reported(status(), 100.5, 100.5)
    assert not one.is_full(100.6)


def test_a_failure_puts_it_out_until_a_later_report() -> None:
    one = server()
    one.sent("a", 100.1, 10)
    one.failed("a", 100.1, 101)
    assert one.standing(101) is Standing.OUT
    one.reported(status(), 100.9, 101.1)  # asked before the failure
    assert one.standing(101.2) is Standing.OUT
    one.reported(status(), 101.2, 101.3)
    assert one.standing(101.3) is Standing.READY


def test_one_that_answers_status_but_fails_requests_waits_longer_each_time() -> None:
    one = server()
    now, waits = 101.0, []
    for number in range(8):
        one.sent(f"{number}", now, 10)
        now += 0.1
        one.failed(f"{number}", now - 0.1, now)
        failed = now
        while one.standing(now) is Standing.OUT:
            now += 0.1
            one.reported(status(), now, now)
        waits.append(now - failed)
    assert waits[0] < 0.3
    assert waits == sorted(waits)
    assert LONGEST_WAIT_S - 0.2 < waits[-1] < LONGEST_WAIT_S + 0.3
    one.sent("good", now, 10)
    one.ended("good", now + 1, 1.0)
    assert one.failures == 0


def test_requests_that_fail_together_count_once_and_a_restart_excuses_them() -> None:
    one = server()
    for number in range(10):
        one.sent(f"{number}", 100.1, 10)
    for number in range(10):
        one.failed(f"{number}", 100.1, 101)
    assert one.failures == 1
    for now in (103, 104, 105):
        one.reported(status(), now, now)
        one.sent("again", now + 0.1, 10)
        one.failed("again", now + 0.1, now + 0.2)
    assert one.reported(status(generation=2), 105.5, 105.5)
    assert one.standing(105.6) is Standing.READY


def test_one_that_is_gone_is_out_at_once_and_one_that_is_late_at_the_second_time() -> None:
    one = server()
    one.late("late")
    assert one.standing(100.5) is Standing.READY
    one.late("late")
    assert one.standing(100.6) is Standing.OUT
    one.reported(status(), 101, 101)
    assert one.standing(101) is Standing.READY
    one.unreachable("refuses connections", 102)
    assert one.standing(102) is Standing.OUT


def test_one_whose_status_lies_is_unknown_but_not_out() -> None:
    one = server(busy=4)
    one.garbled("its /status cannot be true", 101)
    assert one.standing(101) is Standing.UNKNOWN
    assert one.confidence(101) == 0


def test_flights_do_not_pile_up() -> None:
    one = server()
    for number in range(20_000):
        one.sent(f"{number}", 100 + number / 1000, 10)
    assert len(one.flights) <= 10_000
    one.sent("much later", 100_000, 10)
    assert list(one.flights) == ["much later"]


def test_what_may_be_counted_twice_makes_no_server_full() -> None:
    one = server(busy=4, queued=7)
    one.sent("other", 100.1, 10, by_other=True)
    one.sent("own", 99.98, 10)  # on its way when the report was made, maybe in it
    assert one.requests() == 13
    assert not one.is_full(100.2)
    one.sent("own too", 100.2, 10)
    assert one.is_full(100.3)
    one.ended("own too", 100.4)
    assert not one.is_full(100.5)
