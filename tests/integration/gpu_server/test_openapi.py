"""schemathesis finds nothing: a gpu-server answers whatever it is sent as its OpenAPI says."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gpu_servers import KEY, GpuServer

pytestmark = pytest.mark.integration

PROXIED = "^/(v1/.*|tokenize|detokenize|apply-template)$"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuServer]:
    """A real llama-server with so little context that no answer takes long."""
    log = tmp_path_factory.mktemp("openapi") / "log"
    with GpuServer(log, N_CTX=128, N_PARALLEL=2, N_BATCH=64, N_UBATCH=64, FIRST_BYTE_TIMEOUT_S=30) as server:
        yield server.ready()


def schemathesis(server: GpuServer, directory: Path, *arguments: str) -> None:
    """Run schemathesis as one would by hand."""
    command = [
        Path(sys.executable).with_name("schemathesis"), "--no-color", "run", "--header", f"Authorization: Bearer {KEY}",
        "--workers", "2", "--request-timeout", "40", "--generation-deterministic",
        "--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all", "--continue-on-failure",
        # llama-server takes some types for others: not ours to judge.
        "--exclude-checks", "positive_data_acceptance,negative_data_rejection",
        *arguments, f"http://127.0.0.1:{server.port}/openapi.json",
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stdout[-14000:] + ended.stderr[-2000:]


def test_the_openapi_tells_of_control_and_proxied_routes(small: GpuServer) -> None:
    document = small.client.get("/openapi.json").json()
    paths = document["paths"]
    assert {"/health", "/status", "/drain", "/logs", "/v1/chat/completions", "/v1/models"} <= paths.keys()
    assert "/v1/embeddings" not in paths  # not served in this mode
    chat = paths["/v1/chat/completions"]["post"]
    assert {"400", "401", "413", "429", "502", "503", "504"} <= chat["responses"].keys()
    assert chat["requestBody"]["content"]["application/json"]["schema"]["required"] == ["messages"]
    assert document["security"] == [{"key": []}]
    assert paths["/health"]["get"]["security"] == []


def test_no_request_to_llama_server_breaks_the_schema(small: GpuServer, tmp_path: Path) -> None:
    schemathesis(small, tmp_path, "--include-path-regex", PROXIED, "--max-examples", "6")
    assert small.metric('gpu_server_requests_total{outcome="error"}') == 0
    assert small.metric('gpu_server_requests_total{outcome="upstream_died"}') == 0
    assert small.status()["generation"] == 1  # whatever was sent, llama-server lived


def test_no_question_breaks_the_schema(small: GpuServer, tmp_path: Path) -> None:
    schemathesis(small, tmp_path, "--include-path-regex", "^/(health|status|metrics)$", "--max-examples", "20")


def test_no_question_for_the_log_breaks_the_schema(small: GpuServer, tmp_path: Path) -> None:
    # follow=true is left out: that answer has no end
    (tmp_path / "schemathesis.toml").write_text('[parameters]\n"query.follow" = false\n')
    schemathesis(small, tmp_path, "--include-path-regex", "^/logs$", "--max-examples", "20")


def test_no_command_breaks_the_schema(small: GpuServer, tmp_path: Path) -> None:
    schemathesis(small, tmp_path, "--include-path-regex", "^/(drain|resume|restart)$", "--max-examples", "5")
