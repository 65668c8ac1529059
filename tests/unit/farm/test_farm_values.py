"""The small values of a farm file: what each takes, and that a hostile string gets no further."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from corral.farm import values
from corral.farm.host import Host
from corral.farm.model import Model

HOSTILE = [
    '"; rm -rf /',
    "a'b",
    "${HOME}",
    "$(id)",
    "`id`",
    "a\nb",
    "a b",
    "a:b",
    "../x",
    "-x",
    "",
    "\x1b[31m",
    "a\0b",
    "ü",
]


def taken(kind: Any, value: object) -> object:
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize("text", [*HOSTILE, "A", "a.b", "a_b", "x" * 41, "a-"])
def test_a_name_is_letters_digits_and_dashes(text: str) -> None:
    with pytest.raises(ValidationError, match="cannot be a name; use small letters"):
        taken(values.Name, text)


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 65, ".x"])
def test_a_model_name_is_safe_in_files_and_labels(text: str) -> None:
    with pytest.raises(ValidationError, match="cannot name a model; use letters"):
        taken(values.ModelName, text)


@pytest.mark.parametrize("text", [*HOSTILE, "http://host", "host:80", "host/", "999.0.0.1.", "[::1]", "a..b"])
def test_an_address_has_no_port_scheme_or_blank(text: str) -> None:
    with pytest.raises(ValidationError, match="is no address; give an IP address or a host's name"):
        taken(values.Address, text)


@pytest.mark.parametrize(("text", "said"), [("GPU-Box.lan", "gpu-box.lan"), ("::1", "::1"), ("10.0.0.1", "10.0.0.1")])
def test_an_address_is_an_ip_or_a_name(text: str, said: str) -> None:
    assert taken(values.Address, text) == said


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (values.Variable, "openai", "is no name of an environment variable; give one like OPENAI_API_KEY"),
        (values.Variable, "A=B", "is no name of an environment variable"),
        (values.GpuUuid, "0", "is no UUID of a GPU; `nvidia-smi -L` prints them"),
        (values.GpuUuid, "GPU-1234\n", "is no UUID of a GPU"),
        (values.ComputeCapability, "6", 'is no compute capability; give it in quotes, like "6.1"'),
        (values.CpuSet, "0;1", 'is no set of CPUs; give it in quotes, like "0-1"'),
        (values.DockerEngine, "tcp://10.0.0.1:2375", "reaches no Docker engine; give ssh://USER@HOST"),
        (values.DockerEngine, "ssh://-oProxyCommand=x", "reaches no Docker engine"),
        (values.DockerEngine, "context:-x", "reaches no Docker engine"),
        (values.Image, "Owner/x", "is no image; give one like"),
        (values.Image, "owner/x:v1 --privileged", "is no image"),
        (values.Image, "${IMAGE}", "is no image"),
        (values.HttpsUrl, "http://gate.example/x", "is not served over TLS; write https://gate.example/x"),
        (values.HttpsUrl, "gate.example:8443", "is no URL; write https://gate.example:8443"),
        (values.HttpsUrl, "https://me:secret@gate.example/", "is no https URL without a password; write one like"),
        (values.HttpsUrl, "https://", "is no https URL"),
        (values.HttpsUrl, "https://gate.example/\n", "is no https URL"),
        (values.HttpsUrl, "https://${HOST}/", "is no https URL"),
        (values.Plain, "a\nb", "holds a control character, $ or a backtick; take it out"),
        (values.Plain, "$HOME", "holds a control character, $ or a backtick"),
        (values.Plain, "`id`", "holds a control character, $ or a backtick"),
        (values.Ports, "8081-8080", "is no range of ports; give the lower one first, like 8080-8081"),
        (values.Ports, "1-60000", "is no range of ports"),
        (values.Ports, "8080,8081", "is no range of ports; give one like 8080-8086"),
        (values.Ports, True, "Input should be a valid tuple"),
        (values.Ports, 0, "greater than or equal to 1"),
        (values.Ports, "65535-65536", "less than or equal to 65535"),
        (values.Ports, [], "at least 1 item"),
    ],
)  # fmt: skip
def test_a_value_of_another_form_is_refused_with_the_mend(kind: Any, text: object, said: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        taken(kind, text)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "ports"),
    [("8080-8082", (8080, 8081, 8082)), ("8080 - 8081", (8080, 8081)), (8080, (8080,)), ([1, 65535], (1, 65535))],
)
def test_ports_are_a_range_a_number_or_a_list(given: object, ports: tuple[int, ...]) -> None:
    assert taken(values.Ports, given) == ports


@pytest.mark.parametrize("engine", ["local", "context:gpu-box", "ssh://gpu-box", "ssh://corral@10.0.0.2:2222"])
def test_an_engine_is_local_a_context_or_behind_ssh(engine: str) -> None:
    assert taken(values.DockerEngine, engine) == engine


@pytest.mark.parametrize("image", ["owner/name:v1", "ghcr.io/o/n@sha256:" + "a" * 64, "localhost:5000/n:1"])
def test_an_image_has_a_tag_or_a_digest(image: str) -> None:
    assert taken(values.Image, image) == image


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"mode": "image"}, "mode: image needs `image`"),
        ({}, "says not where its GGUF comes from; add source:"),
        ({"source": {"path": "x"}, "batch": 64}, "ubatch 512 is over batch 64; lower ubatch or raise batch"),
        ({"source": {"path": "x"}, "mode": "transcription"}, "mode: transcription needs `projector`"),
        (
            {"source": {"path": "x"}, "mode": "rerank", "projector": {"path": "p"}},
            "projector has no use with mode: rerank",
        ),
        ({"source": {"path": "x"}, "slots": 0}, "greater than or equal to 1"),
        ({"source": {"path": "x"}, "context": 8}, "greater than or equal to 32"),
        ({"source": {"path": "x"}, "extra_args": ["--x $(id)"]}, "holds a control character, $ or a backtick"),
    ],
)
def test_a_model_that_contradicts_itself_is_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        Model.model_validate(data)
    assert said in str(refusal.value)


def test_all_slots_together_have_the_context_of_each() -> None:
    assert Model.model_validate({"source": {"path": "x"}, "context": 8192, "slots": 4}).total_context == 32768


def test_only_a_machine_of_ones_own_can_detect_its_cards() -> None:
    with pytest.raises(ValidationError, match="gpus: detect works with runtime: processes only; list the GPUs"):
        Host.model_validate({"gpus": "detect"})
    assert Host.model_validate({"gpus": "detect", "runtime": "processes"}).known_gpus == ()


@pytest.mark.parametrize("folder", ["models", "/models; id", "/mo dels", "/${HOME}", "/a\nb"])
def test_a_folder_of_models_is_an_absolute_plain_path(folder: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        Host.model_validate({"models_dir": folder})
