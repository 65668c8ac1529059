"""Which model a machine gets: one that fits, and makes use of what is there."""

from collections.abc import Sequence

import pytest

from corral.farm.host import Gpu
from corral.models.sources import SOURCE
from corral.setup_farm.presets import MARGIN, PACKAGED, PRESETS, best, estimated_fit, named


def cards(*memories: int) -> Sequence[Gpu]:
    return [Gpu(memory_mib=memory) for memory in memories]


@pytest.mark.parametrize(
    ("memories", "model"),
    [
        ([2048], "chat"),
        ([3072], "qwen2.5-1.5b"),
        ([4040], "llama-3.2-3b"),
        ([6064], "llama-3.2-3b"),
        ([8112], "llama-3.1-8b"),
        ([11264], "llama-3.1-8b"),
        ([12053], "qwen2.5-14b"),
        ([15360], "qwen2.5-14b-q5"),
        ([23028], "qwen2.5-14b-q5"),
        ([24564], "qwen2.5-32b"),
        ([46068], "qwen2.5-32b"),
        ([49140], "llama-3.3-70b"),
        ([81559], "llama-3.3-70b-wide"),
        ([8112] * 8, "llama-3.1-8b"),
        ([8112] * 7 + [24564], "llama-3.1-8b"),
        ([24564, 4040], "qwen2.5-32b"),
        ([12288, 8112], "llama-3.1-8b"),
        ([256], None),
        ([], None),
    ],
)
def test_cards_get_the_model_that_makes_most_use_of_them(memories: list[int], model: str | None) -> None:
    found = best(cards(*memories))
    assert (found and found.name) == model


@pytest.mark.parametrize("memory", range(1124, 100_000, 9973))
def test_a_model_that_is_chosen_leaves_the_margin(memory: int) -> None:
    found = best(cards(memory))
    assert found is not None
    assert found.needs_mib <= memory * (1 - MARGIN)


def test_the_planner_can_judge_the_fit_instead() -> None:
    assert best(cards(8112), fits=lambda preset, gpu: preset.name == "llama-3.2-3b") == named("llama-3.2-3b")
    assert best(cards(8112), fits=lambda preset, gpu: False) is None


def test_needs_are_weights_kv_cache_and_room_to_work() -> None:
    llama = named("llama-3.1-8b")
    assert llama is not None
    kv_mib = 2 * 32 * 8 * 128 * 34 / 32 * 16384 / 2**20  # 32 layers, 8 KV heads of 128, 16k tokens of q8_0
    assert llama.needs_mib == round(4693 * 1.02 + kv_mib + 700)
    assert estimated_fit(llama, Gpu(memory_mib=8192))
    assert not estimated_fit(llama, Gpu(memory_mib=6144))


def test_presets_go_from_small_to_large_and_each_is_a_model_under_the_name_chat() -> None:
    needs = [preset.needs_mib for preset in PRESETS]
    assert needs == sorted(needs)
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)
    for preset in PRESETS:
        assert SOURCE.validate_python(preset.source.model_dump()) == preset.source
        assert "chat" in (preset.name, *preset.model.aliases)
    assert [preset.name for preset in PRESETS if preset.is_packaged] == [PACKAGED.name]
