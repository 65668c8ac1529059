"""What a server takes on its GPU and on the host, by its settings."""

from dataclasses import replace

import pytest

from corral.gguf.errors import GgufError
from corral.gguf.header import Header
from corral.gguf.shape import model_shape
from corral.planner.estimate_server import Device, ServerShape
from corral.planner.memory import (
    CUDA_CONTEXT_BYTES,
    DEFAULT_MARGIN_BYTES,
    MIB,
    PROJECTOR_COMPUTE_BYTES,
    GpuMemory,
    estimate,
)
from support.gguf_headers import header_of
from support.gguf_models import Sizes, llama_31_8b_q5_k_m, mamba, nomic_embed_v15_q8_0, small

CARD_BYTES = 8192 * MIB
CHAT = ServerShape(context=16_384, batch=128, ubatch=64, gpu_layers=33, type_k="q8_0", type_v="q8_0")
EMBEDDING = ServerShape(context=8192, slots=4, mode="embedding")


@pytest.fixture(scope="module")
def llama() -> Header:
    return header_of(llama_31_8b_q5_k_m())


@pytest.fixture(scope="module")
def nomic() -> Header:
    return header_of(nomic_embed_v15_q8_0())


def bytes_of(header: Header, *names: str) -> int:
    return sum(tensor.bytes for tensor in header.tensors if tensor.name.startswith(names))


def test_the_reference_box_fits_a_chat_and_an_embedding_server_on_each_card(llama: Header, nomic: Header) -> None:
    embedding = estimate(nomic, EMBEDDING).gpu.total
    fits = estimate(llama, CHAT).gpu.total + embedding + DEFAULT_MARGIN_BYTES
    doubled = estimate(llama, replace(CHAT, context=32_768)).gpu.total + embedding + DEFAULT_MARGIN_BYTES
    assert fits <= CARD_BYTES < doubled


def test_the_parts_of_the_reference_boxs_chat_server(llama: Header) -> None:
    gpu = estimate(llama, CHAT).gpu
    assert gpu.cache == 1088 * MIB  # 32 layers x 16,384 tokens x 2,048 elements x 34/32 bytes
    assert gpu.weights == llama.tensor_bytes - bytes_of(llama, "token_embd.")
    assert gpu.scratch == 64 * MIB  # keys and values of one layer in f16
    assert 17 * MIB < gpu.compute < 22 * MIB
    assert gpu.driver == CUDA_CONTEXT_BYTES
    assert gpu.total == gpu.weights + gpu.cache + gpu.compute + gpu.scratch + gpu.driver


def test_the_token_embedding_stays_on_the_host(llama: Header) -> None:
    host = estimate(llama, CHAT).host
    assert host.mapped == bytes_of(llama, "token_embd.")
    assert host.resident == host.total + host.mapped


def test_a_tied_embedding_is_on_both_sides() -> None:
    header = header_of(small(Sizes(tied=True)))
    estimated = estimate(header, ServerShape())
    assert estimated.gpu.weights == header.tensor_bytes
    assert estimated.host.mapped == bytes_of(header, "token_embd.")


@pytest.mark.parametrize(("gpu_layers", "on_gpu"), [(1, ()), (3, (2, 3)), (5, (0, 1, 2, 3)), (99, (0, 1, 2, 3))])
def test_the_last_layers_go_to_the_gpu_and_the_output_first_of_all(gpu_layers: int, on_gpu: tuple[int, ...]) -> None:
    header = header_of(small(Sizes(layers=4)))
    estimated = estimate(header, ServerShape(gpu_layers=gpu_layers))
    names = ("output", *(f"blk.{index}." for index in on_gpu))
    assert estimated.gpu.weights == bytes_of(header, *names)
    assert estimated.host.mapped == header.tensor_bytes - estimated.gpu.weights
    assert estimated.gpu_layers == min(gpu_layers, 5)
    whole = estimate(header, ServerShape()).gpu.cache
    assert estimated.gpu.cache == whole * len(on_gpu) // 4
    assert estimated.host.cache == whole - estimated.gpu.cache


def test_without_layers_the_gpu_is_not_used() -> None:
    header = header_of(small(Sizes()))
    for estimated in (estimate(header, ServerShape(gpu_layers=0)), estimate(header, ServerShape(), Device.CPU)):
        assert estimated.gpu == GpuMemory()
        assert estimated.host.mapped == header.tensor_bytes


def test_cuda_pads_the_last_row_of_quantised_tensors() -> None:
    header = header_of(small(Sizes(layers=1, embedding=576, heads=9, kv_heads=3)))
    odd = [tensor for tensor in header.tensors if tensor.type == "q8_0" and tensor.shape[0] == 576]
    on_gpu = sum(1 for tensor in odd if tensor.name != "token_embd.weight")
    padding = (1024 - 576) // 32 * 34  # up to the next 512 elements
    weights = bytes_of(header, "blk.", "output")
    # And each tensor starts at a multiple of 128 bytes.
    assert 0 <= estimate(header, ServerShape()).gpu.weights - weights - on_gpu * padding < 128 * len(header.tensors)


@pytest.mark.parametrize(
    ("server", "context", "slot"),
    [
        (ServerShape(context=1000), 1024, 1024),
        (ServerShape(context=5000, slots=3), 5376, 1792),
        (ServerShape(context=4096, slots=4), 4096, 1024),
        (ServerShape(context=4096, slots=4, kv_unified=True), 4096, 4096),
    ],
)
def test_the_context_is_rounded_as_llama_server_does(server: ServerShape, context: int, slot: int) -> None:
    estimated = estimate(header_of(small(Sizes())), server)
    assert (estimated.context, estimated.context_slot) == (context, slot)
    assert estimated.gpu.cache == context * 4 * 2 * 128 * 2  # 4 layers, keys and values of 128 elements in f16


def test_sliding_layers_keep_their_window_only() -> None:
    header = header_of(small(Sizes("gemma3", layers=6, window=512)))
    row = 2 * 128 * 2
    cache = estimate(header, ServerShape(context=16_384, ubatch=256)).gpu.cache
    assert cache == row * (16_384 + 5 * 768)
    unified = estimate(header, ServerShape(context=16_384, slots=2, ubatch=256, kv_unified=True)).gpu.cache
    assert unified == row * (16_384 + 5 * 1280)


def test_an_encoder_has_no_cache(nomic: Header) -> None:
    assert estimate(nomic, EMBEDDING).gpu.cache == 0


def test_each_slot_has_its_recurrent_state() -> None:
    header = header_of(mamba())
    state = model_shape(header).layers[0].state_row
    assert estimate(header, ServerShape(slots=3)).gpu.cache == 4 * 4 * state * 3


def test_more_of_anything_never_takes_less(llama: Header) -> None:
    base = estimate(llama, CHAT).gpu.total
    for changed in (
        replace(CHAT, context=16_640),
        replace(CHAT, ubatch=128),
        replace(CHAT, type_k="f16", type_v="f16"),
        replace(CHAT, mode="embedding"),
        replace(CHAT, mmproj_bytes=1),
    ):
        assert estimate(llama, changed).gpu.total > base
    assert estimate(llama, replace(CHAT, gpu_layers=32)).gpu.weights < estimate(llama, CHAT).gpu.weights


def test_a_projector_lies_on_the_gpu(llama: Header) -> None:
    gpu = estimate(llama, replace(CHAT, mmproj_bytes=600 * MIB)).gpu
    assert gpu.projector == 600 * MIB + PROJECTOR_COMPUTE_BYTES


def test_the_prompt_cache_counts_on_the_host(llama: Header, nomic: Header) -> None:
    without = estimate(llama, replace(CHAT, cache_ram_mib=0)).host.total
    assert estimate(llama, replace(CHAT, cache_ram_mib=1024)).host.total == without + 1024 * MIB
    assert estimate(llama, replace(CHAT, cache_ram_mib=-1)).host.prompts is None
    assert estimate(nomic, EMBEDDING).host.prompts == 0


def test_the_output_buffer_is_reckoned_at_its_largest(nomic: Header) -> None:
    assert estimate(nomic, EMBEDDING).host.output == 512 * (30_522 + 768) * 4


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(GgufError, match=r"slots is 0; give 1 or more"):
        ServerShape(slots=0)
    with pytest.raises(GgufError, match=r"type_k 'q3_k' is no type of a KV cache; give one of f32, f16"):
        ServerShape(type_k="q3_k")
    with pytest.raises(GgufError, match=r"type_v q8_0 needs flash attention, which is off; turn it on"):
        ServerShape(type_v="q8_0", flash_attention="off")
