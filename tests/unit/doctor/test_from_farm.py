"""What the doctor looks at for a farm file: what this machine is, and what is reached from here."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from corral.doctor.findings import WantedGpu
from corral.doctor.from_farm import wanted_of
from corral.farmstate import FarmState, PartState, write
from corral.models.catalogue import EMBED
from corral.paths import StateDir
from support.farm_files import farm_of

UUID = "GPU-5c1ae8cd-0f6d-4b2a-9d39-2a1f7f3c8e01"
LOCAL = f"""\
hosts:
  here:
    runtime: processes
    gpus: [{{memory_mib: 8112, uuid: {UUID}, power_limit_w: 90}}, {{memory_mib: 4040}}]
models:
  chat: {{source: {{package: smollm2-135m-instruct}}}}
  embed: {{mode: embedding, source: {{package: all-minilm-l6-v2}}}}
servers:
  - {{model: chat, host: here, gpus: all, ports: 8080-8081}}
  - {{model: embed, host: here, ports: 8090}}
"""
HOSTS = f"""\
hosts:
  box: {{address: 10.0.0.2, gpus: [{{memory_mib: 8112, uuid: {UUID}}}], models_dir: /data/gguf}}
  gate: {{address: "fd00::1"}}
models:
  llama: {{source: {{path: /l.gguf}}}}
  images: {{mode: image, image: owner/localai:v1}}
servers:
  - {{model: llama, host: box, gpus: [0], ports: 8080}}
  - {{model: llama, host: gate, ports: 8081}}
  - {{model: images, host: box, ports: 5100}}
proxy: {{host: gate, listen: LISTEN}}
"""


def hosts(listen: str = "0.0.0.0") -> str:  # noqa: S104  # a value of a file
    return HOSTS.replace("LISTEN", listen)


def test_a_farm_of_one_machine_is_looked_at_whole(tmp_path: Path) -> None:
    state = StateDir(tmp_path / ".corral")
    wanted = wanted_of(farm_of(LOCAL), tmp_path, state)
    assert wanted.servers == (
        ("chat-1", "http://127.0.0.1:8080"), ("chat-2", "http://127.0.0.1:8081"), ("embed-1", "http://127.0.0.1:8090"),
    )  # fmt: skip
    assert wanted.gate_url == "http://127.0.0.1:4000"
    assert dict(wanted.ports) == {"gate": 4000, "database": 15432, "chat-1": 8080, "chat-2": 8081, "embed-1": 8090}
    assert wanted.gpus == (WantedGpu(UUID, 8112, 90),)
    assert (wanted.models_dir, wanted.containers) == (state.models, False)
    assert wanted.private_files == (state.root, state.secrets_file)


def test_what_must_still_be_converted_needs_room(tmp_path: Path) -> None:
    state = StateDir(tmp_path / ".corral")
    state.create()
    assert EMBED.converted is not None
    assert wanted_of(farm_of(LOCAL), tmp_path, state).models_bytes == EMBED.converted.size
    (state.models / EMBED.converted.path).touch()
    assert wanted_of(farm_of(LOCAL), tmp_path, state).models_bytes == 0


def test_the_ports_of_the_last_start_count_over_the_files(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.ports_file.write_text(json.dumps({"litellm": 4001, "postgres": 15433, "chat-1": 8085}))
    wanted = wanted_of(farm_of(LOCAL), tmp_path, state)
    assert wanted.gate_url == "http://127.0.0.1:4001"
    assert wanted.servers[:2] == (("chat-1", "http://127.0.0.1:8085"), ("chat-2", "http://127.0.0.1:8081"))
    assert dict(wanted.ports)["database"] == 15433


def test_a_part_of_a_farm_that_runs_holds_its_port_rightly_and_nobody_else(tmp_path: Path) -> None:
    """Also one that does not answer: to stop what holds its port, or to give it another, would mend nothing."""
    state = StateDir(tmp_path / ".corral")
    state.create()
    own = psutil.Process()
    with socket.create_server(("127.0.0.1", 0)) as held, socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"postgres": held.getsockname()[1], "chat-1": taken.getsockname()[1]}
        state.ports_file.write_text(json.dumps(ports))
        running = FarmState("http://127.0.0.1:4000/v1", "running", own.pid, own.create_time())
        running.parts = [
            PartState("postgres", "service", port=ports["postgres"], pid=own.pid, pid_created=own.create_time()),
            PartState("chat-1", "service", port=ports["chat-1"], pid=None),  # it ended, and its port was taken
        ]
        write(state.state_file, running)
        wanted = dict(wanted_of(farm_of(LOCAL), tmp_path, state).ports)
        assert "database" not in wanted
        assert wanted["chat-1"] == ports["chat-1"]
        write(state.state_file, replace(running, keeper_created=0.0))
        assert "database" in dict(wanted_of(farm_of(LOCAL), tmp_path, state).ports)


def test_servers_on_cards_that_were_detected_are_those_of_the_last_start(tmp_path: Path) -> None:
    cards = f"[{{memory_mib: 8112, uuid: {UUID}, power_limit_w: 90}}, {{memory_mib: 4040}}]"
    farm = farm_of(LOCAL.replace(cards, "detect"))
    state = StateDir(tmp_path)
    state.ports_file.write_text(json.dumps({"chat-1": 8080, "chat-2": 8081, "chat-3": 8082, "embed-1": 8090}))
    names = [name for name, _ in wanted_of(farm, tmp_path, state).servers]
    assert sorted(names) == ["chat-1", "chat-2", "chat-3", "embed-1"]


@pytest.mark.parametrize(
    ("addresses", "cards", "folder", "containers"),
    [
        ({"10.0.0.2"}, 1, Path("/data/gguf"), True),
        ({"fd00::1"}, 0, Path("/srv/corral/models"), True),
        (set(), 0, None, False),
    ],
)
def test_of_a_farm_of_hosts_the_one_with_this_machines_address_is_looked_at(
    addresses: set[str], cards: int, folder: Path | None, containers: bool
) -> None:
    wanted = wanted_of(farm_of(hosts()), Path("/farm"), addresses=addresses)
    assert (len(wanted.gpus), wanted.models_dir, wanted.containers) == (cards, folder, containers)
    assert wanted.ports == ()
    assert wanted.private_files == ((Path("/farm/.env"),) if containers else ())


def test_servers_are_asked_at_their_hosts_and_image_servers_are_not() -> None:
    wanted = wanted_of(farm_of(hosts()), Path("/farm"), addresses=())
    assert wanted.servers == (("llama-1", "http://10.0.0.2:8080"), ("llama-2", "http://[fd00::1]:8081"))


@pytest.mark.parametrize(
    ("listen", "addresses", "url"),
    [
        ("0.0.0.0", {"fd00::1"}, "http://127.0.0.1:4000"),  # noqa: S104  # a value of a file
        ("0.0.0.0", (), "http://[fd00::1]:4000"),  # noqa: S104
        ("10.0.0.1", (), "http://10.0.0.1:4000"),
        ("127.0.0.1", {"fd00::1"}, "http://127.0.0.1:4000"),
        ("127.0.0.1", (), None),
    ],
)
def test_the_gate_is_asked_where_it_can_be_reached_from_here(listen: str, addresses: set[str], url: str | None) -> None:
    assert wanted_of(farm_of(hosts(listen)), Path("/farm"), addresses=addresses).gate_url == url
