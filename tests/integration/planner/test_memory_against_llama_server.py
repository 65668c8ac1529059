"""The planner's figures beside llama-server's own: cache and weights exact, compute never under and within +25 %.

Every run is llama-server's memory fit (`-lv 5`): it lays out the real graph of a real header and allocates nothing.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from corral.gguf.files import read_file
from corral.models.catalogue import CHAT
from corral.planner.estimate_server import Device, ServerShape
from corral.planner.fit_table import confirm
from corral.planner.memory import MIB, Estimate, estimate
from support.gguf_files import Model, write
from support.gguf_models import Sizes, deepseek2, llama_31_8b_q5_k_m, mamba, nomic_embed_v15_q8_0, small
from support.memory_engine import Figures, command, measure

pytestmark = pytest.mark.integration

ROUNDING_MIB = 0.006  # the log has two decimals
MOST_OVER = 1.25

SMALL = {
    "llama": Sizes(),
    "llama-tied-q4_0": Sizes(type="q4_0", tied=True, vocabulary=128_000),
    "qwen2": Sizes("qwen2", type="q5_1", kv_heads=4),
    "qwen3": Sizes("qwen3", head=128, layers=3, vocabulary=64_000),
    "gemma3": Sizes("gemma3", head=128, layers=7, tied=True, window=512),
    "qwen3moe": Sizes("qwen3moe", experts=16, experts_used=4, expert_feed_forward=256),
    "phi3": Sizes("phi3", type="f16", kv_heads=8),
    "bert": Sizes("bert", kv_heads=8, context=512),
    "nomic-bert": Sizes("nomic-bert", kv_heads=8, context=2048),
}
DECODERS = [name for name in SMALL if "bert" not in name]
ENCODERS = [name for name in SMALL if "bert" in name]

SERVERS = {
    "one slot, short": ServerShape(context=512, ubatch=64),
    "two slots, q8_0": ServerShape(context=4096, slots=2, ubatch=128, type_k="q8_0", type_v="q8_0"),
    "four slots, long, q4_0": ServerShape(context=16_384, slots=4, ubatch=256, type_k="q4_0", type_v="q4_0"),
    "uneven slots, mixed types": ServerShape(context=5000, slots=3, type_k="q8_0", flash_attention="on"),
    "unified": ServerShape(context=8192, slots=4, kv_unified=True, flash_attention="on"),
    "no flash attention": ServerShape(context=4096, slots=2, flash_attention="off"),
    "no flash attention, short batch": ServerShape(context=2048, batch=64, ubatch=64, flash_attention="off"),
    "f32 cache": ServerShape(context=4096, slots=2, type_k="f32", type_v="f32", flash_attention="on"),
    "embedding": ServerShape(context=2048, slots=2, ubatch=128, mode="embedding"),
}
ENCODER_SERVERS = {
    "one slot": ServerShape(context=512, mode="embedding"),
    "four slots": ServerShape(context=8192, slots=4, mode="embedding", flash_attention="on"),
    "small batch, no flash attention": ServerShape(
        context=512, slots=2, batch=128, ubatch=128, mode="embedding", flash_attention="off"
    ),
}


def check(estimated: Estimate, measured: Figures, most_over: float = MOST_OVER) -> None:
    assert estimated.host.cache / MIB == pytest.approx(measured.cache, abs=ROUNDING_MIB * max(len(measured.caches), 1))
    assert estimated.host.mapped / MIB == pytest.approx(measured.weights, abs=measured.rounding)
    assert measured.compute - ROUNDING_MIB <= estimated.host.compute / MIB <= most_over * measured.compute
    assert estimated.host.output / MIB >= measured.output - ROUNDING_MIB


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_take_what_is_planned(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", small(SMALL[name]))
    header = read_file(path)
    for server in SERVERS.values():
        check(estimate(header, server, Device.CPU), measure(path, server))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_take_what_is_planned(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", small(SMALL[name]))
    header = read_file(path)
    for server in ENCODER_SERVERS.values():
        estimated = estimate(header, server, Device.CPU)
        assert estimated.host.cache == 0
        check(estimated, measure(path, server))


def test_the_packaged_chat_model_takes_what_is_planned(tmp_path: Path) -> None:
    path = CHAT.location(tmp_path)
    header = read_file(path)
    for server in (ServerShape(context=8192, slots=2), ServerShape(context=4096, ubatch=64, type_k="q8_0")):
        check(estimate(header, server, Device.CPU), measure(path, server))


def test_the_reference_boxs_chat_model_takes_what_is_planned(tmp_path: Path) -> None:
    path = write(tmp_path / "llama.gguf", llama_31_8b_q5_k_m())
    header = read_file(path)
    for context in (16_384, 32_768):
        server = ServerShape(context=context, batch=128, ubatch=64, type_k="q8_0", type_v="q8_0")
        check(estimate(header, server, Device.CPU), measure(path, server))


def test_the_reference_boxs_embedding_model_takes_what_is_planned(tmp_path: Path) -> None:
    path = write(tmp_path / "nomic.gguf", nomic_embed_v15_q8_0())
    server = ServerShape(context=8192, slots=4, mode="embedding")
    check(estimate(read_file(path), server, Device.CPU), measure(path, server))


@pytest.mark.parametrize("make", [mamba, deepseek2])
def test_states_and_latent_caches_are_exact_and_their_compute_bounded(
    make: Callable[[], Model], tmp_path: Path
) -> None:
    path = write(tmp_path / "model.gguf", make())
    header = read_file(path)
    for name in ("one slot, short", "two slots, q8_0", "no flash attention"):
        check(estimate(header, SERVERS[name], Device.CPU), measure(path, SERVERS[name]), most_over=2.0)


async def test_confirm_shows_llama_servers_table(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", small(Sizes()))
    server = ServerShape(context=4096, slots=2)
    estimated = estimate(read_file(path), server, Device.CPU).host
    rows = await confirm(command(), path, server)
    host = next(row for row in rows if row.host)
    assert host.context_mib == estimated.cache // MIB
    assert host.model_mib == estimated.mapped // MIB
    assert host.compute_mib <= estimated.compute / MIB
