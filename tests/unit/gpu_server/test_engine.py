"""Settings become a llama-server command line, and the embedded engine takes every flag that can be in it."""

from pathlib import Path

import pytest
import xllamacpp

from gpu_server import embedded_flags
from gpu_server.embedded import has_avx2
from gpu_server.engine import arguments, child_environment, find_engine, is_device_error
from gpu_server.settings import Settings


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.touch()
    return path


def settings(model: Path, **fields: object) -> Settings:
    return Settings.model_validate({"model_path": model, **fields})


def test_every_setting_that_shapes_llama_server_is_in_its_flags(model: Path) -> None:
    argv = " ".join(
        arguments(
            settings(
                model, model_alias="m", n_gpu_layers=33, n_ctx=16384, n_batch=128, n_ubatch=64, n_threads=3,
                n_parallel=4, cache_type_k="q8_0", cache_type_v="q4_0", cache_reuse=128, cache_ram_mib=99,
                extra_args="--flash-attn on",
            ),
            9001,
        )
    )  # fmt: skip
    for flag in (
        f"--model {model}", "--alias m", "--host 127.0.0.1", "--port 9001", "--n-gpu-layers 33", "--ctx-size 16384",
        "--batch-size 128", "--ubatch-size 64", "--threads 3", "--parallel 4", "--cache-type-k q8_0",
        "--cache-type-v q4_0", "--cache-reuse 128", "--cache-ram 99", "--flash-attn on", "--metrics", "--slots",
        "--no-webui", "--jinja",
    ):  # fmt: skip
        assert flag in argv


@pytest.mark.parametrize(
    ("mode", "has", "lacks"),
    [
        ("chat", "--cache-reuse", "--embedding"),
        ("embedding", "--embedding", "--jinja"),
        ("rerank", "--reranking", "--jinja"),
        ("transcription", "--mmproj", "--cache-reuse"),
    ],
)
def test_each_mode_has_its_flags(model: Path, mode: str, has: str, lacks: str) -> None:
    argv = arguments(settings(model, mode=mode, mmproj_path=model if mode == "transcription" else None), 1)
    assert has in argv
    assert lacks not in argv


@pytest.mark.parametrize("mode", ["chat", "embedding", "rerank", "transcription"])
def test_the_embedded_engine_takes_every_flag_we_pass(model: Path, mode: str) -> None:
    given = settings(
        model, mode=mode, n_gpu_layers=1, n_threads=2, n_parallel=3, cache_type_k="iq4_nl", cache_type_v="q5_1",
        mmproj_path=model if mode in ("chat", "transcription") else None,
        extra_args="-fa auto --pooling mean -tb 1 --no-warmup",
    )  # fmt: skip
    params = embedded_flags.common_params(embedded_flags.parse(arguments(given, 9002)), xllamacpp)
    assert (params.port, params.n_parallel, params.n_gpu_layers, params.cpuparams.n_threads) == (9002, 3, 1, 2)
    assert params.model.path == str(model)
    assert params.cache_type_k == xllamacpp.ggml_type.GGML_TYPE_IQ4_NL
    assert params.endpoint_metrics
    assert params.endpoint_slots
    assert params.embedding == (mode in ("embedding", "rerank"))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--frobnicate"], "--frobnicate"),
        (["--ctx-sise", "4"], "did you mean --ctx-size?"),
        (["-c"], "-c needs a value"),
        (["-c", "many"], "-c many: must be a whole number"),
        (["--port", "0"], "--port 0: must be from 1 to 65535"),
        (["-ctk", "q9"], "-ctk q9: must be one of f32"),
        (["--slots=yes"], "--slots takes no value"),
        (["-m", "/nowhere/m.gguf"], "-m /nowhere/m.gguf: no such file"),
        (["--port", "9"], "--model is missing"),
    ],
)
def test_a_flag_that_is_not_taken_is_refused_by_name(argv: list[str], words: str) -> None:
    with pytest.raises(embedded_flags.FlagError) as caught:
        embedded_flags.parse(argv)
    assert words in str(caught.value)


def test_a_cpu_without_avx2_is_seen(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor: 0\nflags\t\t: fpu sse sse2 avx\n")
    assert not has_avx2(cpuinfo, "x86_64")
    cpuinfo.write_text("processor: 0\nflags\t\t: fpu avx avx2\n")
    assert has_avx2(cpuinfo, "x86_64")
    assert has_avx2(tmp_path / "none", "aarch64")


def test_the_named_llama_server_comes_before_the_one_on_the_path_before_the_embedded(
    model: Path, tmp_path: Path
) -> None:
    for name in ("llama-server", "mine"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    named = find_engine(settings(model, llama_server=str(tmp_path / "mine")), str(tmp_path))
    assert named.command == (str(tmp_path / "mine"),)
    assert find_engine(settings(model), str(tmp_path)).command == (str(tmp_path / "llama-server"),)
    embedded = find_engine(settings(model), str(tmp_path / "empty"))
    assert embedded.command[1:] == ("-m", "gpu_server.embedded")
    assert embedded.kind == "embedded"


def test_llama_server_sees_one_gpu_no_key_and_no_settings_of_its_own(model: Path) -> None:
    environ = {"PATH": "/bin", "API_KEY": "sk", "LLAMA_API_KEY": "x", "LLAMA_ARG_HOST": "0.0.0.0"}  # noqa: S104
    env = child_environment(settings(model, gpu_uuid="GPU-12"), environ)
    assert env == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "GPU-12"}


@pytest.mark.parametrize(
    "line",
    [
        "CUDA error: an illegal memory access was encountered",
        "0.12.345.678 E CUDA error: out of memory",
        "/src/ggml/src/ggml-cuda/ggml-cuda.cu:88: CUDA error",
        "ggml/src/ggml.c:123: GGML_ASSERT(a == b) failed",
    ],
)
def test_a_device_error_is_seen_in_the_output(line: str) -> None:
    assert is_device_error(line)


@pytest.mark.parametrize(
    "line",
    [
        "0.03.305.579 W srv    operator(): got exception: last read: '\"CUDA error'",
        "0.00.351.699 I srv    load_model: initializing, n_slots = 2",
        "",
    ],
)
def test_a_client_cannot_fake_a_device_error(line: str) -> None:
    assert not is_device_error(line)
