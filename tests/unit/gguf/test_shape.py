"""Sizes of models, as llama.cpp derives them from metadata."""

from dataclasses import replace

import pytest

from corral.gguf.errors import GgufError
from corral.gguf.header import Header, assemble
from corral.gguf.parser import parse
from corral.gguf.shape import model_shape
from support.gguf_files import Model, header_bytes
from support.gguf_models import Sizes, llama_31_8b_q5_k_m, nomic_embed_v15_q8_0, small


def header_of(model: Model, **changes: object) -> Header:
    architecture = model.metadata["general.architecture"]
    metadata = {**model.metadata, **{f"{architecture}.{key}": value for key, value in changes.items()}}
    kept = {key: value for key, value in metadata.items() if value is not None}
    return assemble("model.gguf", [parse(header_bytes(replace(model, metadata=kept)), "model.gguf")], 0)


def of(architecture: str, layers: int, **changes: object) -> Header:
    names = {key.replace("__", "."): value for key, value in changes.items()}
    return header_of(small(Sizes(architecture, layers=layers, vocabulary=8)), **names)


def test_llama_31_8b() -> None:
    shape = model_shape(header_of(llama_31_8b_q5_k_m()))
    assert (shape.layer_count, shape.embedding, shape.vocabulary) == (32, 4096, 128_256)
    layer = shape.layers[0]
    assert (layer.heads, layer.kv_heads, layer.key_length, layer.key_row, layer.value_row) == (32, 8, 128, 1024, 1024)
    assert (layer.feed_forward, shape.context_train, shape.causal, shape.kv_cache) == (14_336, 131_072, True, True)


def test_an_encoder_keeps_no_cache_and_pools() -> None:
    shape = model_shape(header_of(nomic_embed_v15_q8_0()))
    assert (shape.kv_cache, shape.causal, shape.pooling, shape.context_train) == (False, False, "mean", 2048)


def windows(header: Header) -> list[int]:
    return [layer.window for layer in model_shape(header).layers]


@pytest.mark.parametrize(
    ("architecture", "changes", "expected"),
    [
        ("gemma3", {"attention__sliding_window": 512}, [512] * 5 + [0, 512]),
        ("gemma3", {}, [0] * 7),
        ("gemma3", {"attention__sliding_window": 512, "attention__sliding_window_pattern": 2}, [512, 0] * 3 + [512]),
        ("gemma2", {}, [4096, 0] * 3 + [4096]),
        ("gpt-oss", {"attention__sliding_window": 128}, [128, 0] * 3 + [128]),
        ("smallthinker", {"attention__sliding_window": 4096}, [0, 4096, 4096, 4096, 0, 4096, 4096]),
        ("phi3", {"attention__sliding_window": 2047}, [0] * 7),
        (
            "newly-made",
            {
                "attention__sliding_window": 64,
                "attention__sliding_window_pattern": [True, False, True, True, False, True, True],
            },
            [64, 0, 64, 64, 0, 64, 64],
        ),
    ],
)
def test_sliding_windows(architecture: str, changes: dict[str, object], expected: list[int]) -> None:
    assert windows(of(architecture, 7, **changes)) == expected


def test_heads_may_differ_from_layer_to_layer() -> None:
    shape = model_shape(of("deci", 3, attention__head_count_kv=[2, 0, 4]))
    assert [layer.key_row for layer in shape.layers] == [128, 0, 256]


def test_latent_attention_keeps_keys_only() -> None:
    shape = model_shape(
        of(
            "deepseek2", 2, attention__head_count_kv=1, attention__key_length=320, attention__value_length=256,
            attention__key_length_mla=192, attention__value_length_mla=128,
        )
    )  # fmt: skip
    assert [(layer.key_row, layer.value_row) for layer in shape.layers] == [(320, 0)] * 2


def test_hybrids_have_states_where_they_do_not_attend() -> None:
    lfm2 = model_shape(of("lfm2", 3, attention__head_count_kv=[0, 2, 0], shortconv__l_cache=3))
    assert [(layer.key_row, layer.state_row) for layer in lfm2.layers] == [(0, 1024), (128, 0), (0, 1024)]
    sizes = {"ssm__conv_kernel": 4, "ssm__inner_size": 1024, "ssm__state_size": 16}
    qwen = model_shape(of("qwen3next", 4, **sizes))
    assert [bool(layer.state_row) for layer in qwen.layers] == [True, True, True, False]
    mamba = model_shape(of("mamba", 2, attention__head_count=0, **sizes))
    assert mamba.layers[0].state_row == 3 * 1024 + 16 * 1024
    assert not mamba.kv_cache


def test_layers_for_multi_token_prediction_are_weights_only() -> None:
    shape = model_shape(of("glm4moe", 4, nextn_predict_layers=1))
    assert (len(shape.layers), shape.layer_count) == (3, 4)


def test_a_file_without_a_size_is_told() -> None:
    with pytest.raises(GgufError, match=r"model\.gguf does not say llama\.embedding_length; give the \.gguf file"):
        model_shape(of("llama", 1, embedding_length=None))


def test_a_cache_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(GgufError, match=r"architecture deepseek4 is of a kind that cannot be planned; .*--confirm"):
        model_shape(of("deepseek4", 1))
