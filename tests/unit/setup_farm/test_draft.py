"""The farm file that a machine gets: it loads, it fits, and no string from the hardware breaks it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import CorralError
from corral.farm import FarmFile, Server, load_farm, servers_of
from corral.farm.host import Gpu
from corral.setup_farm.draft import Answers, default_preset, draft, free_gate_port, text
from corral.setup_farm.presets import PACKAGED, PRESETS, Preset, named
from corral.setup_farm.surroundings import Surroundings
from support.farm_files import farm_of

ROOT = Path(__file__).parents[3]
UUID = "GPU-5c1ae8cd-0f6d-4b2a-9d39-2a1f7f3c8e0{}"
BARE = Surroundings(
    architecture="x86_64",
    cpu_flags=frozenset({"avx2"}),
    cores=4,
    memory_mib=16384,
    memory_available_mib=12000,
    is_free=lambda port: True,
)


def with_gpus(*memories: int, serves: bool = True) -> Surroundings:
    gpus = tuple(
        Gpu(memory_mib=memory, uuid=UUID.format(place), name="P104-100", compute_capability="6.1", power_limit_w=90)
        for place, memory in enumerate(memories)
    )
    return replace(BARE, gpus=gpus, llama_server=Path("llama-server"), serves_on_gpus=serves)


def taken(*ports: int) -> Callable[[int], bool]:
    return lambda port: port not in ports


def written(seen: Surroundings, model: str | None = None, port: int = 4000) -> str:
    preset = default_preset(seen) if model is None else named(model)
    assert preset is not None
    return text(draft(seen, Answers("corral", preset, port)), ROOT)


def farm(seen: Surroundings, model: str | None = None, port: int = 4000) -> FarmFile:
    return farm_of(written(seen, model, port))


def placed(server: Server) -> tuple[object, ...]:
    return (server.name, server.model, server.port, server.gpu_index, server.host.runtime)


def test_without_a_gpu_the_farm_is_the_laptop_farm() -> None:
    laptop = load_farm(ROOT / "farms" / "laptop.yaml").value
    mine = farm(BARE)
    assert [placed(server) for server in servers_of(mine)] == [placed(server) for server in servers_of(laptop)]
    assert (mine.proxy, mine.models) == (laptop.proxy, laptop.models)


def test_cards_are_listed_and_each_serves_the_model() -> None:
    box = farm(with_gpus(8112, 8112))
    assert [gpu.uuid for gpu in box.hosts["here"].known_gpus] == [UUID.format(0), UUID.format(1)]
    assert [gpu.memory_mib for gpu in box.hosts["here"].known_gpus] == [8112, 8112]
    chats = [server for server in servers_of(box) if server.model.mode == "chat"]
    assert [(server.gpu_index, server.port, server.model_name) for server in chats] == [
        (0, 8080, "llama-3.1-8b"), (1, 8081, "llama-3.1-8b"),
    ]  # fmt: skip


def test_a_card_that_the_model_does_not_fit_is_listed_and_left_alone() -> None:
    seen = with_gpus(24564, 4040)
    said = written(seen)
    assert "No server on GPU 1: the model does not fit there." in said
    assert {server.gpu_index for server in servers_of(farm_of(said))} == {0, None}
    assert len(farm_of(said).hosts["here"].known_gpus) == 2


def test_cards_that_no_llama_server_can_use_are_listed_and_the_cpu_serves() -> None:
    said = written(replace(with_gpus(8112, serves=False), llama_server=None))
    assert "the packaged llama-server cannot. Name one that can in LLAMA_SERVER" in said
    assert [server.gpu_index for server in servers_of(farm_of(said))] == [None, None, None]
    assert set(farm_of(said).models) == {"chat", "embed"}


def test_many_cards_push_the_embedding_server_up() -> None:
    ports = [server.port for server in servers_of(farm(with_gpus(*[8112] * 12)))]
    assert ports == [*range(8080, 8092), 8092]


def test_ports_that_are_taken_are_passed_over() -> None:
    seen = replace(BARE, is_free=taken(4000, 8081, 8090, 15432))
    mine = farm(seen, port=free_gate_port(seen))
    assert [server.port for server in servers_of(mine)] == [8080, 8082, 8091]
    assert (mine.proxy.port, mine.proxy.database_port) == (4001, 15433)


def test_a_gate_among_the_servers_ports_pushes_them_aside() -> None:
    assert [server.port for server in servers_of(farm(BARE, port=8080))] == [8081, 8082, 8090]


@pytest.mark.parametrize(
    ("seen", "model", "port", "said"),
    [
        (BARE, "llama-3.3-70b", 4000, "takes about 44,781 MiB, which neither a usable GPU nor the memory has; .* chat"),
        (with_gpus(8112), "qwen2.5-32b", 4000, "choose another one: --models llama-3.1-8b fits"),
        (replace(BARE, is_free=taken(4000)), "chat", 4000, "port 4000 is taken; name another one with --port"),
        (replace(BARE, is_free=lambda port: port == 4000), "chat", 4000, "no port is free from 8080 on"),
    ],
)
def test_what_cannot_be_is_refused_with_the_mend(seen: Surroundings, model: str, port: int, said: str) -> None:
    with pytest.raises(CorralError, match=said):
        farm(seen, model, port)


def test_a_machine_with_memory_can_serve_a_larger_model_on_the_cpu() -> None:
    servers = servers_of(farm(BARE, "llama-3.1-8b"))
    assert [(server.name, server.gpu_index) for server in servers] == [("llama-3-1-8b-1", None), ("embed-1", None)]


def test_a_machine_of_little_memory_gets_one_server() -> None:
    small = replace(BARE, memory_available_mib=1800)
    assert [server.name for server in servers_of(farm(small))] == ["chat-1", "embed-1"]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_each_preset_gives_a_farm_file_that_says_what_it_is(preset: Preset) -> None:
    said = written(with_gpus(98304), preset.name)
    assert said.startswith("# yaml-language-server: $schema=farms/corral.schema.json\n")
    assert preset.title in said
    assert len(servers_of(farm_of(said))) == 2


def test_a_farm_file_elsewhere_still_finds_the_schema(tmp_path: Path) -> None:
    first = text(draft(BARE, Answers("corral", PACKAGED, 4000)), tmp_path).splitlines()[0]
    assert first == f"# yaml-language-server: $schema={(ROOT / 'farms' / 'corral.schema.json').as_uri()}"


@given(
    name=st.text(alphabet=st.characters(blacklist_categories=["C", "Z"], blacklist_characters="$`"), max_size=40),
    memory=st.integers(256, 200_000),
)
def test_whatever_a_card_calls_itself_the_file_loads_and_says_the_same(name: str, memory: int) -> None:
    seen = replace(BARE, gpus=(Gpu(memory_mib=memory, name=name),), serves_on_gpus=True)
    assert farm(seen).hosts["here"].known_gpus == seen.gpus
