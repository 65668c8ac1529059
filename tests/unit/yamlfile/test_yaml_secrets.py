"""Secrets in a file: found by name and by form, and never repeated."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, field_validator

from corral.yamlfile import YamlFileErrors, loads, looks_secret
from support.yaml_models import GOOD, faults

RANDOM = "f3a9c1e07b5d2846aa10ffb2c3d4e5f697081"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("api_key", "abc"), ("master-key", "x"), ("apiKey", "x"), ("HF_TOKEN", "x"), ("password", "hunter2"),
        ("password", 123456), ("client_secret", "x"), ("note", "sk-1234"), ("note", "use sk-abcdefghijklmnopqrst now"),
        ("note", "hf_" + "aB3" * 11), ("note", "ghp_" + "aB3" * 12), ("note", "AKIAIOSFODNN7EXAMPLE"),
        ("url", "postgresql://corral:hunter2@db/keys"), ("url", "https://:x@host/"), ("credentials", RANDOM),
        ("auth_value", RANDOM), ("pem", "-----BEGIN RSA PRIVATE KEY-----\nx"), ("key", RANDOM),
        ("url", "redis://:${NAME}x@host"),
    ],
)  # fmt: skip
def test_a_secret_is_found_and_not_repeated(key: str, value: Any) -> None:
    problem = looks_secret(("a", 0, key), value)
    assert problem is not None
    assert "${NAME}" in problem.mend
    assert str(value) not in str(problem)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("api_key", "${API_KEY}"), ("api_key", "$API_KEY"), ("api_key", "os.environ/API_KEY"),
        ("api_key", "OPENAI_API_KEY"),
        ("api_key", None), ("api_key", ""), ("require_token", True), ("max_tokens", 4096), ("token", 5),
        ("sha256", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"), ("name", "task-1234567"),
        ("tokenizer_revision", "f3a9c1e07b5d2846aa10ffb2c3d4e5f697081abc"), ("path", "/models/sk-learn.gguf"),
        ("url", "https://host:8080/a@b"), ("url", "postgresql://corral:${PASSWORD}@db/keys"),
        ("public_key", "ssh-rsa AAAA"),
        ("key", "room"), ("keys", "a, b"), ("note", "hf_transfer"), ("cache_type_k", "q8_0"),
    ],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(key: str, value: Any) -> None:
    assert looks_secret((key,), value) is None


@pytest.mark.parametrize("port", ["8081", "no port"])
def test_a_secret_is_told_with_its_place_together_with_the_rest(port: str) -> None:
    text = GOOD.replace("port: 8081", f"port: {port}\n    api_key: hunter2\n    base_url: http://u:hunter3@h")
    lines = faults(text)
    assert (
        "farm.yaml:8:14: boxes[1].api_key: a secret stands in the file; put it into .env and name it here: ${NAME}"
        in lines
    )
    assert any(line.startswith("farm.yaml:9:15: boxes[1].base_url: a secret stands in the file") for line in lines)
    assert len(lines) == (2 if port == "8081" else 3)
    assert "hunter" not in "\n".join(lines)


class Talkative(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    password: str = ""
    sizes: list[int] = []
    note: str = ""

    @field_validator("password", "note")
    @classmethod
    def _refuse(cls, value: str) -> str:
        raise ValueError(f"I do not like {value!r}; try another")


@pytest.mark.parametrize(
    "text",
    [
        'password: hunter2\'s "x"\n',
        "password: hunter2\nnote: my hunter2 is\n",
        "sizes: [sk-hunter2-1234]\n",
        "sk-hunter2-1234: 1\n",
        "password: [hunter2]\n",
        "sizes: &sk-hunter2-1234 [1]\nnote: *sk-hunter2-123\n",
        "password: !hunter2 hunter2\n",
        "password: hunter2: x\n",
        "sizes: [{password: hunter2, hunter2: 1}]\n",
    ],
)
def test_no_error_repeats_a_secret(text: str) -> None:
    with pytest.raises(YamlFileErrors) as caught:
        loads(text, "x.yaml", Talkative)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)
