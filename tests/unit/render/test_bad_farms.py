"""Farm files that cannot be: each is refused with the line, before anything is rendered."""

from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from corral.render.cli import app
from corral.yamlfile import YamlFileErrors
from support.random_farms import TWO_HOSTS


class Case(NamedTuple):
    """`before` becomes `after` in the example; the line that holds `line` is said to be wrong, in words with `said`."""

    before: str
    after: str
    line: str
    said: str


QWEN = "source: {hub: Qwen/Qwen2.5-7B-Instruct-GGUF, file: qwen2.5-7b-instruct-q4_k_m.gguf, revision: main}"

BAD = {
    "two servers on a port": Case("ports: 8090", "ports: 8081", "ports: 8081", "port 8081 of gpu-box is taken by qwen"),
    "a port of the gate": Case(
        "host: gate\n", "host: gpu-box\n  port: 8090\n", "ports: 8090", "port 8090 of gpu-box is taken by the gate"
    ),
    "a GPU that is not there": Case("gpus: [1], ports", "gpus: [2], ports", "gpus: [2]", "host gpu-box has no GPU 2"),
    "an alias of two models": Case(
        "aliases: [embed]", "aliases: [chat]", "aliases: [chat]", "is an alias of qwen already"
    ),
    "a limit without servers": Case(
        "  - {model: qwen, host: gpu-box, gpus: [0, 1], ports: 8080-8081}\n", "", "limits:", "no server serves"
    ),
    "a cycle of fallbacks": Case(
        "qwen: [elsewhere]", "qwen: [elsewhere]\n    elsewhere: [qwen]", "elsewhere", "the fallbacks go in a circle"
    ),
    "a secret in the file": Case(
        "api_key_env: OPENAI_API_KEY", "api_key: sk-0123456789abcdef0123456789abcdef", "api_key:", "secret"
    ),
    "a broken anchor": Case("memory_mib: 1024", "memory_mib: *nowhere", "*nowhere", "nowhere"),
    "a model that is not there": Case("model: nomic-embed,", "model: nomic-embd,", "nomic-embd", "mean nomic-embed?"),
    "a relative path in a container": Case(QWEN, "source: {path: m/qwen.gguf}", "m/qwen", "relative to the farm file"),
    "a loopback address, asked from elsewhere": Case("192.168.1.20", "127.0.0.1", "127.0.0.1", "the gate asks"),
    "an open quote in flags": Case(
        "revision: main}", "revision: main}\n    extra_args: ['--a \"b']", "--a", "quotation"
    ),
    "a flag that the farm file says itself": Case(
        "revision: main}", "revision: main}\n    extra_args: [--no-mmap, --ctx-size=9]", "--ctx", "say it by context"
    ),
    "the master key sent away": Case("OPENAI_API_KEY", "LITELLM_MASTER_KEY", "LITELLM", "the farm's own secret"),
    "the environment sent away": Case("openai/gpt-4o-mini", "os.environ/HOME", "os.environ", "would be sent away"),
    "an alias that is a server's name": Case(
        "aliases: [embed]", "aliases: [qwen-1]", "aliases: [qwen-1]", "qwen-1 is the name of a server too"
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_with_its_line_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    case = BAD[name]
    good = TWO_HOSTS.read_text()
    assert case.before in good
    farm = tmp_path / "corral.yaml"
    farm.write_text(good.replace(case.before, case.after, 1))
    result = CliRunner().invoke(app, ["--file", str(farm), "--out", str(tmp_path / "out")])
    error = result.exception
    assert isinstance(error, YamlFileErrors), result.output
    assert error.exit_code == 2
    (about, *_) = [line for line in error.lines() if case.said in line]
    number = int(about.removeprefix(f"{farm}:").split(":")[0])
    assert case.line in farm.read_text().splitlines()[number - 1]
    assert "sk-0123456789" not in str(error)
    assert not (tmp_path / "out").exists()
