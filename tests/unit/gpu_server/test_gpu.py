"""The card's metrics, from a faked NVML: none without a card, and a lost one is told."""

from types import SimpleNamespace

from prometheus_client import CollectorRegistry, generate_latest

from gpu_server.gpu import GpuMonitor
from support.tasks import running_until
from support.waiting import wait_until_async


class FakeNvml:
    """As much of pynvml as is used; functions that are not given fail as on a card without them."""

    NVML_ERROR_GPU_IS_LOST = 15
    NVML_TEMPERATURE_GPU = NVML_CLOCK_SM = NVML_VOLATILE_ECC = NVML_MEMORY_ERROR_TYPE_CORRECTED = 0
    NVML_CLOCK_MEM = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1

    class NVMLError(Exception):
        def __init__(self, value: int) -> None:
            self.value = value

    def __init__(self, *, cards: int = 1, driver: bool = True) -> None:
        self.cards = cards
        self.driver = driver
        self.lost = False

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        if not self.driver:
            raise self.NVMLError(9)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - NVML's name
        return self.cards

    def nvmlDeviceGetPowerUsage(self, _card: int) -> int:  # noqa: N802 - NVML's name
        if self.lost:
            raise self.NVMLError(self.NVML_ERROR_GPU_IS_LOST)
        return 150_000

    def __getattr__(self, name: str) -> object:
        known = {
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda card: f"GPU-{card}",
            "nvmlDeviceGetName": lambda _card: "P104-100",
            "nvmlDeviceGetMemoryInfo": lambda _card: SimpleNamespace(used=3 * 2**30, total=8 * 2**30),
            "nvmlDeviceGetUtilizationRates": lambda _card: SimpleNamespace(gpu=75, memory=20),
            "nvmlDeviceGetClockInfo": lambda _card, _domain: 1733,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _card: 0x4,
        }

        def unsupported(*_: object) -> None:
            raise self.NVMLError(3)

        return known.get(name, unsupported)


async def test_a_cards_state_becomes_metrics_in_base_units() -> None:
    monitor = GpuMonitor(None, on_lost=lambda: None, nvml=FakeNvml())
    registry = CollectorRegistry()
    registry.register(monitor)
    async with running_until(monitor.run()):
        await wait_until_async(lambda: _as_coroutine(monitor.samples), 2, "a sample")
        text = generate_latest(registry).decode()
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


async def test_without_a_driver_or_card_there_is_no_metric() -> None:
    for nvml in (FakeNvml(driver=False), FakeNvml(cards=0)):
        monitor = GpuMonitor(None, on_lost=lambda: None, nvml=nvml)
        await monitor.run()
        assert list(monitor.collect()) == []


async def test_a_machine_without_nvidia_driver_is_no_error() -> None:
    monitor = GpuMonitor("GPU-00000000-0000-0000-0000-000000000000", on_lost=lambda: None)
    await monitor.run()
    assert monitor.samples == []


async def test_a_lost_card_is_told() -> None:
    nvml = FakeNvml()
    nvml.lost = True
    told: list[bool] = []
    monitor = GpuMonitor(None, on_lost=lambda: told.append(True), nvml=nvml)
    async with running_until(monitor.run()):
        await wait_until_async(lambda: _as_coroutine(told), 2, "the loss")
    assert monitor.samples == []


async def _as_coroutine(value: object) -> object:
    return value
