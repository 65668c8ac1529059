"""What `corral top` makes of what servers say: pages of the gpu-server's own exporters, and hostile ones."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from corral.top.sample import Metrics, Sample, ServerSample, parse
from corral.top.screen import screen
from corral.top.view import History, View
from gpu_server.gpu import MEANINGS, GpuMonitor
from gpu_server.gpu import Sample as CardSample

UUID = "GPU-5d2b7a10-0c3e-4b1d-9d6e-1f2a3b4c5d6e"


def card(temperature: float = 63) -> Metrics:
    """A card's series, as the gpu-server's exporter writes them."""
    readings = {
        "gpu_utilization_ratio": 0.75, "gpu_memory_utilization_ratio": 0.2, "gpu_memory_used_bytes": 6.0 * 2**30,
        "gpu_memory_total_bytes": 8.0 * 2**30, "gpu_power_watts": 82.5, "gpu_power_limit_watts": 90.0,
        "gpu_temperature_celsius": temperature, "gpu_pcie_link_generation": 1.0, "gpu_pcie_link_width": 4.0,
    }  # fmt: skip
    assert set(readings) == set(MEANINGS), "the exporter knows other readings"
    monitor = GpuMonitor(None, lambda _cause: None)
    throttled = {"sw_power_cap": True, "hw_thermal": False}
    monitor.samples = [CardSample(UUID, "P104-100", readings, {"sm": 1.7e9}, throttled, {"corrected": 0.0})]
    registry = CollectorRegistry()
    registry.register(monitor)
    return parse(generate_latest(registry).decode())


def page(tokens: float = 0, restarts: float = 0, cause: str = "stall", fast: float = 0, slow: float = 0) -> Metrics:
    text = f"""
gpu_server_tokens_out_total {tokens}
gpu_server_requests_total{{outcome="ok"}} {tokens / 10}
gpu_server_in_flight 1
gpu_server_slots 2
gpu_server_queued 3
gpu_server_tokens_in_total 100
gpu_server_tokens_cached_total 25
gpu_server_restarts_total{{cause="{cause}"}} {restarts}
gpu_server_state{{state="ready"}} 1
gpu_server_state{{state="failed"}} 0
gen_ai_server_time_to_first_token_seconds_bucket{{le="0.1"}} {fast}
gen_ai_server_time_to_first_token_seconds_bucket{{le="2.5"}} {fast + slow}
gen_ai_server_time_to_first_token_seconds_bucket{{le="+Inf"}} {fast + slow}
"""
    return parse(text)


def seen(*moments: tuple[float, Metrics | str]) -> View:
    history = History()
    for at, said in moments:
        one = ServerSample(error=said) if isinstance(said, str) else ServerSample({"model": "chat"}, said)
        history.add(Sample(at, {"chat-1": one}, None, "no key"))
    return history.view()


def shown(view: View, width: int = 100) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(screen(view, "farm", "12:00:00"))
    return captured.get()


def test_speeds_are_of_the_last_seconds_and_first_tokens_of_the_last_minute() -> None:
    view = seen((0, page(0, fast=100)), (40, page(1000, fast=119, slow=1)), (42, page(1100, fast=119, slow=1)))
    (row,) = view.servers
    assert row.tokens_per_s == 50
    assert row.ttft_p95_s == 0.1  # 19 of 20; the hundred before count no more
    assert seen((0, page(fast=1)), (30, page(fast=1, slow=1))).servers[0].ttft_p95_s == 2.5
    assert (row.busy, row.slots, row.queued, row.state, row.model) == (1, 2, 3, "ready", "chat")


def test_what_did_not_happen_is_not_nought() -> None:
    (row,) = seen((0, page(fast=5)), (1, page(fast=5))).servers
    assert row.ttft_p95_s is None
    (alone,) = seen((0, page())).servers
    assert alone.tokens_per_s is None


def test_a_server_that_began_anew_does_not_go_backwards() -> None:
    (row,) = seen((0, page(5000)), (2, page(100))).servers
    assert row.tokens_per_s == 50


@pytest.mark.parametrize(
    ("moments", "told"),
    [
        ([page(restarts=2)], "chat-1: llama-server replaced, stall (2 so far)"),
        ([page(), page(restarts=1, cause="cuda_error")], "chat-1: llama-server replaced, cuda error"),
        ([page(), "no answer in 2 s"], "chat-1: no answer in 2 s"),
        (["no connection", page()], "chat-1: answers again"),
    ],
)
def test_a_fault_is_told(moments: list[Metrics | str], told: str) -> None:
    view = seen(*enumerate(moments))
    assert view.faults[0].endswith(told)
    assert told in shown(view)


def test_a_fault_that_lasts_is_told_once() -> None:
    assert len(seen(*((at, "no connection") for at in range(20))).faults) == 1


def test_a_card_is_one_row_for_all_servers_on_it() -> None:
    history = History()
    history.add(Sample(0, {name: ServerSample({}, card(91)) for name in ("chat-1", "embed-1")}, None))
    (row,) = history.view().gpus
    assert row.servers == ("chat-1", "embed-1")
    assert row.throttled == ("sw_power_cap",)
    text = shown(history.view())
    for said in ("P104-100", "chat-1, embed-1", "75%", "6.0/8.0 GiB", "91 °C", "82/90 W", "sw_power_cap"):
        assert said in text


def test_keys_are_those_that_work_now() -> None:
    def gate(count: float) -> Metrics:
        return parse(
            f'litellm_proxy_total_requests_metric_total{{api_key_alias="wiki",model_id="a"}} {count}\n'
            f'litellm_proxy_total_requests_metric_total{{api_key_alias="wiki",model_id="b"}} {count}\n'
            'litellm_proxy_total_requests_metric_total{api_key_alias="idle"} 9\n'
            f'litellm_output_tokens_metric_total{{api_key_alias="wiki"}} {count * 30}\n'
        )

    history = History()
    history.add(Sample(0, {}, gate(10)))
    history.add(Sample(2, {}, gate(12)))
    (key,) = history.view().keys
    assert (key.alias, key.requests_per_s, key.tokens_per_s) == ("wiki", 2.0, 30.0)
    assert "keys: no key" in shown(seen((0, page())))


def test_names_that_look_like_markup_and_narrow_terminals() -> None:
    history = History()
    history.add(Sample(0, {"[red]chat[/red]": ServerSample({"model": "[b]m"}, page())}, None))
    text = shown(history.view(), 200)
    assert "[red]chat[/red]" in text
    assert "[b]m" in text
    assert all(len(line) <= 80 for line in shown(seen((0, page()), (1, page(9))), 80).splitlines())
    assert "ready" in shown(seen((0, page()), (1, page(9))), 80)
