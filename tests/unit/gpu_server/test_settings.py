"""Settings: what is taken, what is refused, and with which words."""

from pathlib import Path

import pytest

from gpu_server.settings import Settings, SettingsError, describe, load

HEADER = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + (0).to_bytes(8, "little")
TENSOR = (1).to_bytes(8, "little") + b"t" + (1).to_bytes(4, "little") + bytes(8 + 4 + 8)
WHOLE_GGUF = HEADER + TENSOR + bytes(64)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that passes for a model, with MODEL_PATH set to it and no other setting in the environment."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(WHOLE_GGUF)
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    monkeypatch.setenv("MODEL_PATH", str(path))
    return path


def faults(monkeypatch: pytest.MonkeyPatch, **environ: str) -> list[str]:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    return list(caught.value.faults)


def test_a_model_path_is_enough_and_the_defaults_are_safe(model: Path) -> None:
    settings = load()
    assert (settings.host, settings.port, settings.alias, settings.name) == ("127.0.0.1", 8080, "tiny", "tiny-8080")
    assert settings.allow_remote_media is False


def test_the_reference_deployments_names_are_taken(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "N_GPU_LAYERS": "33", "N_CTX": "16384", "N_BATCH": "128", "N_UBATCH": "64", "N_THREADS": "2",
        "CACHE_TYPE_K": "q8_0", "CACHE_TYPE_V": "q8_0", "CACHE_REUSE": "256", "EXTRA_ARGS": "--flash-attn on",
        "MMPROJ_PATH": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    settings = load()
    assert (settings.n_gpu_layers, settings.n_ubatch, settings.cache_type_k) == (33, 64, "q8_0")
    assert settings.extra_argv == ("--flash-attn", "on")
    assert settings.mmproj_path is None


def test_settings_cannot_be_changed_afterwards(model: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("N_CTX", "abc", "valid integer"),
        ("N_PARALLEL", "0", "greater than or equal to 1"),
        ("PORT", "70000", "less than or equal to 65535"),
        ("MODE", "image", "'chat', 'embedding', 'rerank' or 'transcription'"),
        ("CACHE_TYPE_K", "q9", "q8_0"),
        ("ALLOW_REMOTE_MEDIA", "perhaps", "valid boolean"),
        ("GPU_UUID", "3", "nvidia-smi -L"),
        ("SERVER_NAME", "a b", "letters"),
        ("STALL_TIMEOUT_S", "0", "greater than 0"),
    ],
)
def test_a_value_that_does_not_parse_is_named(
    model: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    (line,) = faults(monkeypatch, **{name: value})
    assert line.startswith(f"{name}={value!r}")
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"N_UBATCH": "1024"}, ("N_UBATCH=1024", "N_BATCH=512")),
        ({"N_CTX": "64", "N_PARALLEL": "4"}, ("N_CTX=64", "N_PARALLEL=4", "raise")),
        ({"HOST": "192.0.2.1"}, ("API_KEY", "HOST=192.0.2.1")),
        ({"GPU_UUID": "GPU-1", "N_GPU_LAYERS": "0"}, ("GPU_UUID", "N_GPU_LAYERS=0")),
        ({"MODE": "transcription"}, ("MODE=transcription", "MMPROJ_PATH")),
        ({"LLAMA_SERVER": "/nowhere/llama-server"}, ("LLAMA_SERVER", "/nowhere/llama-server")),
        ({"EXTRA_ARGS": "--port 9"}, ("EXTRA_ARGS", "--port", "use PORT")),
        ({"EXTRA_ARGS": "-c=9"}, ("EXTRA_ARGS", "use N_CTX")),
        ({"EXTRA_ARGS": "'open"}, ("EXTRA_ARGS", "quot")),
    ],
)
def test_settings_that_contradict_are_named(
    model: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], words: tuple[str, ...]
) -> None:
    (line,) = faults(monkeypatch, **environ)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("given", "meant"),
    [("N_CTXX", "N_CTX"), ("N_GPU_LAYER", "N_GPU_LAYERS"), ("API_KEYS", "API_KEY"), ("MODEL", "MODE")],
)
def test_a_misspelt_setting_stops_the_start_with_the_nearest_name(
    model: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    (line,) = faults(monkeypatch, **{given: "1"})
    assert line.startswith(f"{given} is not a setting")
    assert f"did you mean {meant}?" in line


def test_other_peoples_variables_are_left_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HOSTNAME",
        "LOGNAME",
        "OPENAI_API_KEY",
        "REDIS_PORT",
        "HTTP_PROXY",
        "PATH",
        "LLAMA_ARG_HOST",
        "NO_COLOR",
    ):
        monkeypatch.setenv(name, "x")
    assert load().alias == "tiny"


def test_every_fault_gets_its_line(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(faults(monkeypatch, N_CTXX="1", N_CTX="a", PORT="b")) == 3


def test_a_wrong_key_is_not_printed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("sk-secret" in line for line in faults(monkeypatch, API_KEY="sk-secret", PORT="b"))
    monkeypatch.setenv("PORT", "1")
    assert "sk-secret" not in repr(load())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not start with 'GGUF'"),
        (b"ELF\x7f" * 100, "does not start with 'GGUF'"),
        (b"GGUF", "cut short"),
        (b"GGUF" + (1).to_bytes(4, "little") + bytes(16), "version 1"),
        (HEADER, "cut short"),
        (HEADER + TENSOR, "cut short"),
        (None, "does not exist"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, words: str
) -> None:
    if content is None:
        model.unlink()
    else:
        model.write_bytes(content)
    (line,) = faults(monkeypatch)
    assert line.startswith(f"MODEL_PATH: {model}")
    assert words in line


def test_help_lists_every_setting() -> None:
    text = describe()
    assert len(text.splitlines()) == len(Settings.model_fields)
    assert all(field.upper() in text for field in Settings.model_fields)
