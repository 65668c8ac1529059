"""What the gate's benchmark makes of what it has seen: delays by time, parts of a profile."""

from gate_bench.client import Seen
from gate_bench.profile import IDLE, REST, markdown, parts


def test_delays_are_told_apart_by_when_the_last_stream_began_and_the_first_ended() -> None:
    seen = Seen(sent=[1, 5, 10, 15, 20, 25], delays=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], begun=[2, 10], last=[20, 25])
    assert seen.delays_by_time() == ([0.1, 0.2], [0.3, 0.4])


def test_streams_of_which_the_first_ended_before_the_last_began_were_never_all_under_way() -> None:
    seen = Seen(sent=[1, 2, 8, 9], delays=[0.1, 0.2, 0.3, 0.4], begun=[2, 8], last=[2, 9])
    assert seen.delays_by_time() == ([0.1, 0.2], [])


def test_a_part_within_another_counts_for_itself_alone() -> None:
    run, before, limits = "Exchange.run (a.py:1)", "Exchange._admit (a.py:2)", "ProxyLogging.pre_call_hook (b.py:3)"
    around = "RequestResponseCycle.run_asgi (c.py:4)"
    found = parts(
        [
            f"{around};{run} 2",
            f"{around};{run};{before} 3",
            f"{around};{run};{before};{limits};count (d.py:5) 4",
            "select (e.py:6) 1",
            f"Thread.run (f.py:7);{IDLE} (g.py:8) 90",
        ]
    )
    assert found == {
        "other work of the request, middlewares": 2,
        "LiteLLM before the call": 3,
        "LiteLLM before the call: limits and hooks": 4,
        REST: 1,
    }
    assert markdown(found).splitlines()[2] == "| 40.0% | LiteLLM before the call: limits and hooks |"
