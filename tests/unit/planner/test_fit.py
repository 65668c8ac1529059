"""What would make a server fit: each alternative fits, and the next larger one does not."""

from dataclasses import replace

import pytest

from corral.gguf.header import Header
from corral.planner.estimate_server import ServerShape
from corral.planner.fit import largest_that_fits
from corral.planner.memory import DEFAULT_MARGIN_BYTES, MIB, estimate
from support.gguf_headers import header_of
from support.gguf_models import Sizes, llama_31_8b_q5_k_m, small

BUDGET = 8192 * MIB - DEFAULT_MARGIN_BYTES - 400 * MIB  # beside an embedding server
TOO_LARGE = ServerShape(
    context=32_768, slots=2, batch=128, ubatch=64, gpu_layers=33, type_k="q8_0", type_v="q8_0"
)  # fmt: skip


@pytest.fixture(scope="module")
def llama() -> Header:
    return header_of(llama_31_8b_q5_k_m())


def total(header: Header, server: ServerShape) -> int:
    return estimate(header, server).gpu.total


def test_each_alternative_fits_and_the_next_does_not(llama: Header) -> None:
    assert total(llama, TOO_LARGE) > BUDGET
    found = largest_that_fits(llama, TOO_LARGE, BUDGET)
    assert found.context
    assert found.slots
    assert found.cache_type
    assert found.gpu_layers
    for server in (found.context, found.slots, found.cache_type, found.gpu_layers):
        assert total(llama, server) <= BUDGET
    assert found.context.context % (2 * 256) == 0
    assert total(llama, replace(TOO_LARGE, context=found.context.context + 512)) > BUDGET
    assert (found.slots.slots, found.slots.context) == (1, 16_384)
    assert (found.cache_type.type_k, found.cache_type.type_v) == ("q4_0", "q4_0")
    assert total(llama, replace(TOO_LARGE, gpu_layers=found.gpu_layers.gpu_layers + 1)) > BUDGET


def test_the_mend_is_one_line(llama: Header) -> None:
    mend = largest_that_fits(llama, TOO_LARGE, BUDGET).mend(TOO_LARGE)
    assert mend == (
        "context 26,624 would fit, or 1 slot with context 16,384, or q4_0 cache, or 30 layers on the GPU"
    )  # fmt: skip


def test_what_fits_is_told_how_far_it_may_grow(llama: Header) -> None:
    server = replace(TOO_LARGE, context=16_384, slots=1)
    found = largest_that_fits(llama, server, BUDGET)
    assert found.context
    assert found.context.context > server.context
    assert total(llama, replace(server, context=found.context.context + 256)) > BUDGET
    assert found.cache_type
    assert found.cache_type.type_k == "q8_0"
    assert found.mend(server) == ""


def test_a_context_grows_no_further_than_the_training() -> None:
    header = header_of(small(Sizes(context=4096)))
    found = largest_that_fits(header, ServerShape(context=512, slots=2), 80_000 * MIB)
    assert found.context
    assert found.context.context == 2 * 4096
    assert found.slots
    assert found.slots.slots == 256


def test_nothing_helps_where_the_weights_alone_are_too_large(llama: Header) -> None:
    found = largest_that_fits(llama, TOO_LARGE, 300 * MIB)
    assert (found.context, found.slots, found.cache_type, found.gpu_layers) == (None, None, None, None)
    assert found.mend(TOO_LARGE) == ""


def test_without_flash_attention_no_quantised_values_are_offered() -> None:
    header = header_of(small(Sizes()))
    server = ServerShape(context=65_536, flash_attention="off")
    found = largest_that_fits(header, server, total(header, server) - 1)
    assert found.cache_type is None
