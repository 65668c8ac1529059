"""The compose file of a GPU host."""

import http.server
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from corral.render import render
from support.random_farms import example, farm_of

PATH = "hosts/gpu-box/gpu-server/compose.yaml"


def services(name: str) -> dict[str, Any]:
    (text,) = [file.text for file in render(example(name)) if str(file.path) == PATH]
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


def rendered(text: str, folder: Path, path: str) -> dict[str, Any]:
    (found,) = [file.text for file in render(farm_of(text, folder)) if str(file.path) == path]
    document: dict[str, Any] = yaml.safe_load(found)
    return document


def test_the_reference_box_is_what_it_was_by_hand() -> None:
    box = services("reference")
    assert [name for name in box if name.startswith("llama")] == [
        *("llama-1", "llama-2", "llama-3"),
        *("llama-uncensored-1", "llama-uncensored-2", "llama-uncensored-3", "llama-uncensored-4"),
    ]
    ports = [int(service["ports"][0]["published"]) for service in box.values()]
    assert ports == [*range(8080, 8087), *range(8090, 8097), 5100]
    environment = box["llama-1"]["environment"]
    wanted = {
        "N_GPU_LAYERS": "33", "N_CTX": "16384", "N_BATCH": "128", "N_UBATCH": "64", "N_THREADS": "2",
        "CACHE_REUSE": "256", "CACHE_TYPE_K": "q8_0", "CACHE_TYPE_V": "q8_0", "MODE": "chat",
        "MODEL_PATH": "/models/llama.gguf",
    }  # fmt: skip
    assert {name: environment[name] for name in wanted} == wanted
    assert [box[name]["mem_limit"] for name in ("llama-1", "nomic-embed-1", "images-1")] == ["2048m", "512m", "4096m"]
    assert box["images-1"]["profiles"] == ["images"]


def test_each_server_has_one_card_for_itself() -> None:
    cards = {
        name: service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for name, service in services("reference").items()
    }
    assert cards["llama-3"] == cards["nomic-embed-3"] == ["2"]
    assert cards["images-1"] == ["7"]


def test_a_uuid_pins_a_server_better_than_a_place_in_a_list(tmp_path: Path) -> None:
    text = """
hosts: {box: {gpus: [{memory_mib: 8192, uuid: GPU-1234abcd}]}}
models: {llama: {source: {hub: o/r, file: m.gguf}}}
servers: [{model: llama, host: box, gpus: [0], ports: 8080}]
"""
    service = rendered(text, tmp_path, "hosts/box/gpu-server/compose.yaml")["services"]["llama-1"]
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] == ["GPU-1234abcd"]
    assert service["environment"]["GPU_UUID"] == "GPU-1234abcd"


def test_models_load_one_after_the_other_and_a_broken_one_blocks_nothing_for_ever() -> None:
    box = services("reference")
    chain = [name for name in box if name != "images-1"]
    for before, name in pairwise(chain):
        assert box[name]["depends_on"] == {before: {"condition": "service_healthy", "required": False}}
    assert "depends_on" not in box["images-1"]
    assert "depends_on" not in box[chain[0]]


def test_a_container_can_do_nothing_to_its_host_and_ends_after_its_drain() -> None:
    for name, service in services("reference").items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is (name != "images-1")
        assert service["restart"] == "unless-stopped"
        assert service["logging"]["options"]["max-size"]
        assert service["ports"][0]["host_ip"] == "192.168.1.20"
        drain_s = float(service["environment"].get("DRAIN_TIMEOUT_S", 0))
        assert int(service["stop_grace_period"].removesuffix("s")) > drain_s
        assert "API_KEY" not in service["environment"] or service["environment"]["API_KEY"].startswith(
            "${GPU_SERVER_KEY:?"
        )
        for volume in service["volumes"]:
            assert volume["type"] == "volume" or volume["read_only"]


@pytest.mark.parametrize(
    ("memory", "asked", "gpu", "given"),
    [
        (2048, None, True, "1470"),  # not llama-server's 8192: an OOM kill in such a container
        (2048, 256, True, "256"),
        (2048, 8192, True, "1470"),
        (512, None, True, "0"),
        (4096, None, False, "967"),  # weights and KV cache live in the same memory
        (None, None, True, None),
        (None, 300, True, "300"),
    ],
)
def test_the_prompt_cache_stays_inside_the_container(
    memory: int | None, asked: int | None, gpu: bool, given: str | None, tmp_path: Path
) -> None:
    limits = f"memory_mib: {memory or 'null'}, cache_ram_mib: {asked or 'null'}"
    text = f"""
hosts: {{box: {{gpus: [{{memory_mib: 8192}}]}}}}
models: {{llama: {{source: {{hub: o/r, file: m.gguf}}, {limits}}}}}
servers: [{{model: llama, host: box, ports: 8080{", gpus: [0]" if gpu else ""}}}]
"""
    service = rendered(text, tmp_path, "hosts/box/gpu-server/compose.yaml")["services"]["llama-1"]
    assert service["environment"].get("CACHE_RAM_MIB") == given


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on the loopback that gives every GET this status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def healthcheck(port: int, folder: Path) -> int:
    """Run the rendered check as the engine would; return its exit code."""
    text = f"""
hosts: {{box: {{}}}}
models: {{llama: {{source: {{hub: o/r, file: m.gguf}}}}}}
servers: [{{model: llama, host: box, ports: {port}}}]
"""
    service = rendered(text, folder, "hosts/box/gpu-server/compose.yaml")["services"]["llama-1"]
    how, *command = service["healthcheck"]["test"]
    assert how == "CMD"
    command = [word.replace("$$", "$") for word in command]  # as Compose reads it
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (404, False)])
def test_the_healthcheck_is_healthy_on_200_only(status: int, healthy: bool, tmp_path: Path) -> None:
    with answering(status) as port:
        assert (healthcheck(port, tmp_path) == 0) is healthy


def test_the_healthcheck_of_nobody_fails(tmp_path: Path) -> None:
    with answering(200) as port:
        pass
    assert healthcheck(port, tmp_path) != 0


def test_a_host_known_by_name_says_in_env_which_of_its_addresses_is_open(tmp_path: Path) -> None:
    text = """
hosts: {box: {address: gpu-box.lan}}
models: {llama: {source: {hub: o/r, file: m.gguf}}}
servers: [{model: llama, host: box, ports: 8080}]
"""
    service = rendered(text, tmp_path, "hosts/box/gpu-server/compose.yaml")["services"]["llama-1"]
    assert service["ports"][0]["host_ip"] == "${LISTEN_ADDRESS:?this host's IP address}"


def test_the_image_is_built_once_from_the_base_that_the_host_names(tmp_path: Path) -> None:
    text = """
hosts: {box: {llama_server_base: "ghcr.io/ggml-org/llama.cpp:server-cuda12-b9603"}}
models: {llama: {source: {hub: o/r, file: m.gguf}}}
servers: [{model: llama, host: box, count: 2, ports: 8080-8081}]
"""
    first, second = rendered(text, tmp_path, "hosts/box/gpu-server/compose.yaml")["services"].values()
    assert first["build"]["args"] == {"LLAMA_SERVER_BASE": "ghcr.io/ggml-org/llama.cpp:server-cuda12-b9603"}
    assert first["image"] == second["image"]
    assert "build" not in second
    assert second["pull_policy"] == "never"
