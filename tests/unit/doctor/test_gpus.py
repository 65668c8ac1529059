"""What the doctor says of driver and cards, from a faked NVML: each finding when it is due, and not when it is not."""

import inspect
import threading
from dataclasses import replace

import pynvml
import pytest

from corral.doctor.findings import Finding, Wanted, WantedGpu
from corral.doctor.gpus import check_gpus
from support.nvml_cards import Card, FakeNvml

GPU = WantedGpu("GPU-1", memory_mib=8192, power_limit_w=90)
FARM = Wanted(gpus=(GPU,))


def findings(card: Card, farm: Wanted = FARM) -> list[Finding]:
    return check_gpus(farm, FakeNvml([card]))


def bad(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.level) for finding in found if finding.level != "ok"]


def only(found: list[Finding]) -> Finding:
    [finding] = [finding for finding in found if finding.level != "ok"]
    assert "\n" not in finding.what + finding.mend
    return finding


def test_a_well_card_has_nothing_to_mend() -> None:
    found = findings(Card())
    assert bad(found) == []
    assert {finding.check for finding in found} == {
        "driver", "gpu", "temperature", "throttling", "power", "persistence"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "check", "level", "said", "mend"),
    [
        ({"memory_mib": 4096}, "gpu", "error", "has 4,096 MiB, the farm file says 8,192", "correct memory_mib"),
        ({"capability": (3, 5)}, "gpu", "error", "compute capability 3.5", "another GPU"),
        ({"temperature_c": 91}, "temperature", "warning", "91 C, and it slows down at 95 C", "airflow"),
        ({"temperature_c": 86, "slowdown_c": None}, "temperature", "warning", "86 C", "airflow"),
        ({"throttled": 0x4}, "throttling", "note", "its power limit holds", ""),
        ({"throttled": 0x20}, "throttling", "warning", "heat (driver) holds", "airflow"),
        ({"throttled": 0x8}, "throttling", "error", "hardware slowdown holds", "power supply"),
        ({"throttled": 0x40}, "throttling", "error", "heat (hardware) holds", "fan"),
        ({"throttled": 0x80}, "throttling", "error", "a power brake holds", "power plugs"),
        ({"limit_w": 180}, "power", "warning", "limited to 180 W, 90 W are wanted", "nvidia-smi -i GPU-1 -pl 90"),
        ({"limits_w": (100, 180)}, "power", "error", "takes no limit of 90 W", "100 to 180 W"),
        ({"limit_w": None}, "power", "note", "does not tell its power limit", ""),
        ({"persistence": 0}, "persistence", "warning", "persistence mode is off", "nvidia-smi -pm 1"),
        ({"uncorrected": 2}, "memory errors", "error", "2 uncorrected memory errors", "out of the farm"),
        ({"corrected": 7}, "memory errors", "note", "7 corrected memory errors", "look again"),
        ({"pages_pending": 1}, "memory errors", "warning", "wait to be retired", "reboot"),
        ({"lost": True}, "gpu", "error", "does not answer", "Xid"),
        ({"uuid": "GPU-1", "name": "x", "lost": True}, "gpu", "error", "GPU-1 does not answer", "riser"),
    ],
)
def test_a_fault_is_told_with_its_mend(
    change: dict[str, object], check: str, level: str, said: str, mend: str
) -> None:  # fmt: skip
    finding = only(findings(replace(Card(), **change)))
    assert (finding.check, finding.level) == (check, level)
    assert said in finding.what
    assert mend in finding.mend


def test_idle_clocks_are_no_throttling() -> None:
    assert bad(findings(Card(throttled=0x1))) == []


def test_several_reasons_are_all_told() -> None:
    found = findings(Card(throttled=0x4 | 0x20))
    assert bad(found) == [("throttling", "note"), ("throttling", "warning")]


def test_a_card_of_the_farm_file_that_is_not_there() -> None:
    found = findings(Card(uuid="GPU-2"))
    assert bad(found) == [("gpu", "error"), ("gpu", "note")]
    assert "there are: GPU-2" in found[1].mend
    assert "is not in the farm file" in found[2].what


def test_one_lost_card_does_not_hide_the_others() -> None:
    found = check_gpus(FARM, FakeNvml([Card(uuid="GPU-0", lost=True), Card()]))
    assert bad(found) == [("gpu", "error")]
    assert [finding.check for finding in found].count("temperature") == 1


@pytest.mark.parametrize(("driver", "cuda", "level"), [
    ("525.60.13", 12, "ok"), ("525.60.12", 12, "error"), ("470.256.02", 12, "error"), ("570.86.15", 13, "error"),
    ("470.256.02", 11, "ok"), ("580.65.06", 13, "ok"),
])  # fmt: skip
def test_the_driver_must_be_new_enough_for_cuda(driver: str, cuda: int, level: str) -> None:
    found = check_gpus(Wanted(cuda=cuda), FakeNvml(driver=driver))
    assert [(finding.check, finding.level) for finding in found] == [("driver", level)]


def test_pascal_is_told_to_stay_with_cuda_12() -> None:
    found = check_gpus(replace(FARM, cuda=13), FakeNvml([Card()], driver="580.65.06"))
    assert only(found).mend == "use a llama-server built with CUDA 12"


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "modprobe nvidia"),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "install the NVIDIA driver"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "reboot"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "/dev/nvidia*"),
    ],
)
def test_without_a_driver_the_reason_is_told(code: int, mend: str) -> None:
    finding = only(check_gpus(FARM, FakeNvml(fails=code)))
    assert (finding.check, finding.level) == ("driver", "error")
    assert mend in finding.mend


def test_a_farm_without_gpus_needs_no_driver() -> None:
    finding = only(check_gpus(Wanted(), FakeNvml(fails=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)))
    assert finding.level == "note"


def test_a_driver_that_hangs_is_told_in_time() -> None:
    released = threading.Event()
    try:
        finding = only(check_gpus(FARM, FakeNvml([Card()], hangs=released), deadline_s=0.1))
    finally:
        released.set()
    assert (finding.level, finding.mend) == ("error", "look at `dmesg` for Xid errors, then reboot")


def test_nvml_is_given_back() -> None:
    nvml = FakeNvml([Card()])
    check_gpus(FARM, nvml)
    assert nvml.shut


def test_the_fake_has_the_real_ones_names() -> None:
    for name, fake in inspect.getmembers(FakeNvml, inspect.isfunction):
        if name.startswith("nvml"):
            real = inspect.signature(getattr(pynvml, name)).parameters
            assert len(inspect.signature(fake).parameters) - 1 <= len(real), name
