"""What a farm file may say about where a model comes from, and what it is told when it says something else."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from corral.models.errors import ModelError
from corral.models.remote import PUBLIC_HUB, Hub
from corral.models.sources import SOURCE, HubSource, PackageSource, PathSource, UrlSource
from corral.models.wanted import Wanted, wanted_models
from support.farm_files import serving

SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"package": "smollm2-135m-instruct"}, PackageSource(package="smollm2-135m-instruct")),
        ({"url": "https://h/x.gguf", "sha256": SHA.upper()}, UrlSource(url="https://h/x.gguf", sha256=SHA)),
        ({"hub": "o/r", "file": "d/x.gguf"}, HubSource(hub="o/r", file="d/x.gguf", revision="main")),
        ({"path": "../x.gguf"}, PathSource(path="../x.gguf")),
    ],
)
def test_the_key_that_is_given_says_which_kind_it_is(data: dict[str, str], expected: object) -> None:
    assert SOURCE.validate_python(data) == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "give one of package, url, hub (with file) and path"),
        ("https://h/x.gguf", "give one of package"),
        ({"url": "https://h/x", "path": "x"}, "more than once"),
        ({"package": "llama"}, "the packaged ones are smollm2-135m-instruct"),
        ({"url": "ftp://h/x.gguf"}, "give one like https://"),
        ({"url": "https:///x.gguf"}, "give one like https://"),
        ({"url": "https://user:hunter2@h/x.gguf"}, "a farm file holds no secret"),
        ({"url": "https://h/x.gguf?token=hunter2"}, "a farm file holds no secret"),
        ({"url": "https://h/x.gguf?X-Amz-Signature=hunter2"}, "a farm file holds no secret"),
        ({"url": "https://h/x\n.gguf"}, "control character"),
        ({"url": "https://h/x-00001-of-00003.gguf"}, "llama-gguf-split --merge"),
        ({"url": "https://h/x.gguf", "sha256": "abc"}, "64 hexadecimal digits"),
        ({"hub": "repo", "file": "x.gguf"}, "give owner/repository"),
        ({"hub": "o/../r", "file": "x.gguf"}, "give owner/repository"),
        ({"hub": "o/r", "file": "../x.gguf"}, "without .."),
        ({"hub": "o/r", "file": "/x.gguf"}, "without .."),
        ({"hub": "o/r", "file": "x.safetensors"}, "llama-server loads GGUF only"),
        ({"hub": "o/r", "file": "x.gguf", "revision": "a/../b"}, "give a branch"),
        ({"hub": "o/r", "file": "x.gguf", "revison": "b"}, "revison"),
        ({"path": "x\0.gguf"}, "control character"),
        ({"path": ""}, "has 0 characters"),
    ],
)
def test_a_wrong_source_is_refused_with_the_mend_and_without_the_secret(data: object, said: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        SOURCE.validate_python(data)
    assert said in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_a_source_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PathSource(path="x").path = "y"


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x\n", "-x", "a" * 101])
def test_a_model_name_is_safe_as_a_file_name(name: str) -> None:
    with pytest.raises(ModelError, match="cannot name a model"):
        Wanted(name, PathSource(path="x"))


def test_a_download_is_named_after_the_model_and_a_path_stays_where_it_is() -> None:
    into, base = Path("/models"), Path("/farm")
    assert Wanted("llama", UrlSource(url="https://h/x.gguf")).location(into) == Path("/models/llama.gguf")
    assert Wanted("llama", PathSource(path="x.gguf"), base).location(into) == Path("/farm/x.gguf")
    assert Wanted("llama", PathSource(path="/else/x.gguf"), base).location(into) == Path("/else/x.gguf")


def test_the_farm_file_gives_the_models_but_an_image_model_has_no_file(tmp_path: Path) -> None:
    file = tmp_path / "corral.yaml"
    llama = {"context": 4096, "source": {"hub": "o/r", "file": "x.gguf"}}
    images = "  images: {mode: image, image: owner/localai:v1}\n"
    file.write_text(
        f"hosts: {{box: {{}}}}\nmodels:\n  llama: {llama}\n{images}servers: [{{model: llama, host: box, ports: 1}}]"
    )
    assert wanted_models(file) == {"llama": HubSource(hub="o/r", file="x.gguf")}


def test_without_a_farm_file_there_are_the_packaged_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(wanted_models(None)) == {"chat", "embed"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"source": {"url": "https://h", "sha256": "abc"}}, "models.llama.source.sha256: is no SHA-256; give its"),
        ({}, "models.llama: says not where its GGUF comes from; add source:"),
        ({"source": {"path": "x"}, "contxt": 1}, "unknown key; did you mean `context`?"),
    ],
)
def test_a_wrong_farm_file_is_told_with_its_line(tmp_path: Path, model: dict[str, Any], said: str) -> None:
    file = tmp_path / "corral.yaml"
    file.write_text(serving({"llama": model}))
    with pytest.raises(ModelError) as refusal:
        wanted_models(file)
    assert str(refusal.value).startswith(f"{file}:1:")
    assert said in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_all_that_is_wrong_with_a_farm_file_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "corral.yaml"
    file.write_text(
        "hosts: {box: {}}\nmodels: {'a/b': {source: {path: x}}}\nservers: [{model: c, host: box, port: 1}]\n"
    )
    with pytest.raises(ModelError) as refusal:
        wanted_models(file)
    lines = str(refusal.value).splitlines()
    assert [line.removeprefix(f"{file}:").split(":")[0] for line in lines] == ["2", "3", "3", "3"]


def test_a_farm_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such file"):
        wanted_models(tmp_path / "corral.yaml")


def test_the_hub_is_the_public_one_unless_the_environment_says_otherwise() -> None:
    source = HubSource(hub="o/r", file="a b.gguf", revision="refs/pr/1")
    assert Hub.from_environment({}).url(source) == f"{PUBLIC_HUB}/o/r/resolve/refs%2Fpr%2F1/a%20b.gguf"
    assert Hub.from_environment({"HF_ENDPOINT": "https://mirror/hf/"}).endpoint == "https://mirror/hf"
    with pytest.raises(ModelError, match="HF_ENDPOINT"):
        Hub.from_environment({"HF_ENDPOINT": "mirror"})


def test_the_token_does_not_cross_a_network_in_clear_text() -> None:
    assert Hub("https://mirror", "hf_x").headers() == {"Authorization": "Bearer hf_x"}
    assert Hub("http://127.0.0.1:1", "hf_x").headers() == {"Authorization": "Bearer hf_x"}
    assert Hub("http://mirror", "hf_x").headers() == {}
