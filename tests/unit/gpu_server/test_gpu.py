"""The card's metrics, from a faked NVML: none without a card; a lost one, and Xid errors, are told."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gpu_server.gpu import GpuMonitor
from gpu_server.states import Cause
from support.tasks import running_until
from support.waiting import wait_until_async

FAKE = Path(__file__).resolve().parents[2] / "fakes" / "nvml" / "pynvml.py"


@pytest.fixture
def nvml() -> ModuleType:
    """A fake of its own for each test."""
    spec = importlib.util.spec_from_file_location("fake_pynvml", FAKE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def monitor_of(nvml: ModuleType) -> tuple[GpuMonitor, list[Cause]]:
    told: list[Cause] = []
    return GpuMonitor(None, told.append, nvml), told


def text_of(monitor: GpuMonitor) -> str:
    registry = CollectorRegistry()
    registry.register(monitor)
    return generate_latest(registry).decode()


async def test_a_cards_state_becomes_metrics_in_base_units(nvml: ModuleType) -> None:
    monitor, told = monitor_of(nvml)
    async with running_until(monitor.run()):
        await wait_until_async(lambda: _as_coroutine(monitor.samples), 2, "a sample")
    text = text_of(monitor)
    for line in (
        'gpu_info{gpu="GPU-0",name="P104-100"} 1.0',
        'gpu_utilization_ratio{gpu="GPU-0"} 0.75',
        'gpu_power_watts{gpu="GPU-0"} 150.0',
        'gpu_clock_hertz{domain="sm",gpu="GPU-0"} 1.733e+09',
        'gpu_throttled{gpu="GPU-0",reason="sw_power_cap"} 1.0',
        'gpu_throttled{gpu="GPU-0",reason="hw_thermal"} 0.0',
    ):
        assert line in text
    assert "temperature" not in text  # this card does not tell
    assert told == []


@pytest.mark.parametrize("lack", [{"driver": False}, {"cards": 0}], ids=["no driver", "no card"])
async def test_without_a_driver_or_card_there_is_no_metric(nvml: ModuleType, lack: dict[str, object]) -> None:
    for name, value in lack.items():
        setattr(nvml.state, name, value)
    monitor, _told = monitor_of(nvml)
    await monitor.run()
    assert list(monitor.collect()) == []


async def test_a_machine_without_nvidia_driver_is_no_error() -> None:
    monitor = GpuMonitor("GPU-00000000-0000-0000-0000-000000000000", lambda _cause: None)
    await monitor.run()
    assert monitor.samples == []


async def test_a_lost_card_is_told(nvml: ModuleType) -> None:
    nvml.state.lost = True
    monitor, told = monitor_of(nvml)
    async with running_until(monitor.run()):
        await wait_until_async(lambda: _as_coroutine(told), 2, "the loss")
    assert told == [Cause.GPU_LOST]
    assert monitor.samples == []


async def test_an_xid_is_told_and_counted(nvml: ModuleType) -> None:
    monitor, told = monitor_of(nvml)
    async with running_until(monitor.run()):
        nvml.state.xids.append(79)
        await wait_until_async(lambda: _as_coroutine(told), 2, "the Xid")
    assert told == [Cause.XID]
    assert 'gpu_xid_errors_total{gpu="GPU-0",xid="79"} 1.0' in text_of(monitor)


async def test_an_xid_that_follows_every_kill_is_counted_only(nvml: ModuleType) -> None:
    monitor, told = monitor_of(nvml)
    async with running_until(monitor.run()):
        nvml.state.xids.append(45)
        await wait_until_async(lambda: _as_coroutine(monitor.xids), 2, "the Xid")
    assert told == []
    assert 'gpu_xid_errors_total{gpu="GPU-0",xid="45"} 1.0' in text_of(monitor)


async def test_a_driver_without_events_is_sampled_all_the_same(nvml: ModuleType) -> None:
    nvml.state.events = False
    monitor, _told = monitor_of(nvml)
    async with running_until(monitor.run()):
        await wait_until_async(lambda: _as_coroutine(monitor.samples), 2, "a sample")


async def test_a_driver_that_hangs_takes_the_metrics_away_and_nothing_else(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_server.gpu.SAMPLE_TIMEOUT_S", 0.1)
    monkeypatch.setattr("gpu_server.gpu.SAMPLE_INTERVAL_S", 0.01)
    monitor, told = monitor_of(nvml)
    async with running_until(monitor.run()):
        await wait_until_async(lambda: _as_coroutine(monitor.samples), 2, "a sample")
        nvml.state.hangs_s = 1.0
        await wait_until_async(lambda: _as_coroutine(not monitor.samples), 2, "the metrics to go")
        nvml.state.hangs_s = 0.0
        await wait_until_async(lambda: _as_coroutine(monitor.samples), 5, "a sample again")
    assert told == []


async def _as_coroutine(value: object) -> object:
    return value
