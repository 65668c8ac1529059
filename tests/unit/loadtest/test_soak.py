"""What a long run is judged by."""

from collections.abc import Iterator

from corral.bench.store import Sample
from corral.loadtest.soak import findings
from corral.loadtest.watch import Look, Watched


def looks(memory_end: int = 500, descriptors_end: int = 40, restarts_end: int = 0) -> Iterator[Look]:
    """A part that starts at 300 MiB, fills its caches to 500 in the first third, and then goes on as told."""
    for step in range(31):
        share = max(0.0, (step - 10) / 20)
        memory = 300 + 20 * step if step <= 10 else round(500 + share * (memory_end - 500))
        descriptors = round(40 + share * (descriptors_end - 40))
        yield Look(step * 10.0, memory, descriptors, step * 1.0, restarts_end if step == 30 else 0)


def samples(last_third: float) -> list[Sample]:
    return [
        Sample("ttft_ms", "chat", float(at), (100 + at % 9) * (last_third if at >= 200 else 1)) for at in range(300)
    ]


def broken(watched: Watched, values: list[Sample]) -> list[str]:
    return [finding.what for finding in findings(watched, values) if not finding.good]


def test_a_farm_that_fills_its_caches_and_then_stays_is_good() -> None:
    watched = Watched({"litellm": list(looks())})
    assert broken(watched, samples(1.0)) == []
    assert len(list(findings(watched, samples(1.0)))) == 4


def test_each_kind_of_drift_is_found_by_its_name() -> None:
    assert broken(Watched({"litellm": list(looks(memory_end=800))}), []) == ["litellm: memory"]
    assert broken(Watched({"litellm": list(looks(descriptors_end=90))}), []) == ["litellm: descriptors"]
    assert broken(Watched({"chat-1": list(looks(restarts_end=1))}), []) == ["chat-1: restarts"]
    assert broken(Watched(), samples(1.5)) == ["chat: ttft, last third over first"]


def test_cores_are_cpu_time_over_time() -> None:
    assert Watched({"a": list(looks())}).cores("a") == 0.1


def test_too_short_a_run_is_not_judged_by_its_latency() -> None:
    assert list(findings(Watched(), samples(1.5)[:12])) == []
